"""The door of the learner: it finds limits that nobody stated, and keeps just below them.

There is a ladder of evidence: a server states its limit in headers, or how long to wait, or nothing
at all but a 429. The first is the business of `Rates`, and while it lasts the learner rests. It
rests below a declared limit, too, which is a strong belief: only 429s that chance cannot explain
wake it, and then it begins with what was declared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...core.verdict import MINUTE, Dimension
from ...errors import ConfigurationError
from ..change import Change
from ..costs import LARGEST_COST
from .contradiction import Contradiction
from .seeker import Seeker
from .sends import Ticket
from .states import HOLD, RACE, RISE, SHARE
from .tuning import DEFAULT, Tuning

__all__ = ["Learner", "Ticket"]

NEWS = 0.05
"""A limit that moved by less is no news."""

CALIBRATION = 0.05
"""The weight of the latest ratio of real to estimated tokens in the running mean."""

LONGEST_IDLE = 600.0
"""Seconds without a request after which what was learned may be dropped."""

KNOWN = (HOLD, RISE, RACE, SHARE)
"""The states in which a limit is believed."""


class Learner:
    """What is believed of a server's limit, and when the next request may go.

    Args:
        requests_per_minute: never exceeded; None for no such bound.
        tokens_per_minute: the same for tokens.
        tuning: the numbers of the learner.
        shared: whether other senders use the limit too, and follow the same law.

    With a bound it rests, and begins only when the server rejects what the bound allows; without
    one it searches from the first request. State: inside the `Allowance` that owns it.
    """

    __slots__ = ("_bounds", "_contradiction", "_ratio", "_seeker", "_told", "_tuning", "active",
                 "shared")  # fmt: skip

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        tuning: Tuning = DEFAULT,
        *,
        shared: bool = False,
    ) -> None:
        """Search, or rest."""
        self._bounds: dict[Dimension, float | None] = {
            "requests": requests_per_minute,
            "tokens": tokens_per_minute,
        }
        self._tuning, self.shared = tuning, shared
        self.active = requests_per_minute is None and tokens_per_minute is None
        self._ratio = 1.0
        self._told: float | None = None
        self._contradiction = Contradiction()
        self._seeker = self._new()

    @property
    def dimension(self) -> Dimension:
        """The unit that the limit counts, as far as is known."""
        return "tokens" if self._seeker.record.sends.dimension else "requests"

    def wait(self, now: float, tokens: float = 0.0) -> float:
        """Return the seconds until a request of so many tokens may go."""
        return max(0.0, self.ready_at(tokens) - now)

    def ready_at(self, tokens: float = 0.0) -> float:
        """Return the instant from which a request of so many tokens may go."""
        return self._seeker.ready_at if self.active else -math.inf

    def sent(self, now: float, tokens: float = 0.0, held_until: float = -math.inf) -> Ticket:
        """Take note of a request that is sent now; the ticket comes back with what came of it.

        Args:
            now: the loop time, in seconds.
            tokens: its estimated cost.
            held_until: when the gate last let a call go; to wait there is not to have no work.
        """
        ticket = self._seeker.sent(now, tokens, held_until)
        if self._seeker.calm > self._tuning.content:
            self.active = False
        return ticket

    def accepted(self, now: float, ticket: Ticket, tokens: float | None = None) -> None:
        """Take note that the limit let it pass, and of what it really cost."""
        if ticket.noted_in is self._seeker.record.sends:
            self._seeker.accepted(now, ticket)
        if tokens is not None and 0 < tokens < LARGEST_COST and ticket.cost > 0:
            self._ratio += CALIBRATION * (tokens / ticket.cost - self._ratio)

    def unsent(self, ticket: Ticket) -> None:
        """Take note that it never went."""
        if ticket.noted_in is self._seeker.record.sends:
            self._seeker.unsent(ticket)

    def rejected(self, now: float, ticket: Ticket, hint: float = 0.0) -> None:
        """Take note that it was answered 429, with a wait in seconds where the server told one."""
        if ticket.noted_in is self._seeker.record.sends:
            self._seeker.refused(now, ticket, hint)

    def slow_down(self, now: float) -> None:
        """Take note that the pace grew too fast: that is no measure of the limit."""
        if self.active:
            self._seeker.slow_down(now)

    def rejected_at_rest(self, sent_at: float, number: int) -> None:
        """Take note of a 429 that no limit explains: if that cannot be chance, search.

        Args:
            sent_at: when the request was sent.
            number: how many were sent before it.
        """
        if not self.active and self._contradiction.add(number, sent_at) is not None:
            self._wake(sent_at)

    def stated(self, dimension: Dimension) -> None:
        """Rest: the server states the limit of this dimension by itself."""
        if dimension == self.dimension or self._known() is None:
            self.active = False

    def bound(self, dimension: Dimension, per_minute: float | None) -> None:
        """Never exceed so much; rest until that is rejected."""
        self._bounds[dimension] = per_minute
        self._seeker.course.ceiling = self._ceiling()
        self.active = False

    def passed(self, since: float, until: float, dimension: int) -> float:
        """Return what was sent after `since`, up to `until`, and not refused, while it learned.

        Args:
            since: a loop time, in seconds.
            until: a later one.
            dimension: 0 for requests, 1 for tokens, as they were estimated.
        """
        sends = self._seeker.record.sends
        units = sends.units(since, until, dimension)
        return max(0.0, units * sends.scale if dimension else units)

    def news(self) -> Change | None:
        """Return how the belief changed since it was last told, or None."""
        limit = self.limit
        old = self._told
        if limit is None or (old is not None and abs(limit / old - 1.0) <= NEWS):
            return None
        self._told = limit
        return Change(self.dimension, old, limit, f"learned: {self.evidence}")

    @property
    def limit(self) -> float | None:
        """Units per minute that are believed in, or None while nothing is known."""
        known = self._known() if self.active else None
        return None if known is None else known * self._in_units()

    @property
    def pace(self) -> float | None:
        """Units per minute that are aimed at now, or None at rest."""
        return self._seeker.course.last_pace * self._in_units() if self.active else None

    @property
    def stopped(self) -> bool:
        """Whether the server lets nothing in just now, so that single requests ask it."""
        return self.active and self._seeker.stop is not None

    @property
    def waits_for(self) -> str:
        """In a few words, why a request would wait."""
        if not self.active:
            return "the limit is used up"
        if self._seeker.stop is not None:
            return "the server lets nothing through"
        return "the limit is being learned" if self.limit is None else "the limit is used up"

    def idle(self, now: float) -> bool:
        """Whether it was not used for so long that what it knows may be dropped."""
        last = self._seeker.last
        return not self.active or last is None or now - last > LONGEST_IDLE

    def ready_behind(self, requests: float, tokens: float, now: float) -> float:
        """Return when one more could go, once so many others have."""
        if not self.active:
            return -math.inf
        sends = self._seeker.record.sends
        queued = tokens / sends.scale if sends.dimension else requests
        return max(now, self._seeker.ready_at) + queued / self._seeker.course.last_pace

    @property
    def evidence(self) -> str:
        """In a few words, what the belief rests on."""
        if not self.active:
            return "at rest: nothing contradicts the limits"
        record = self._seeker.record
        if record.measured is None:
            if record.is_restored:
                return "believed from an earlier run"
            woken = self._known() is not None
            return "429s that the limit does not explain" if woken else "nothing is known yet"
        passed, seconds = record.measured
        why = f"{passed:,.0f} accepted in {seconds:,.1f} s between two 429s"
        if record.best is not None and self._known() is not None:
            why += f"; this fits {record.best.name}"
        return why

    def belief(self) -> dict[str, Any] | None:
        """Return what is believed as a value that JSON can hold, or None while nothing is."""
        limit = self.limit
        if limit is None:
            return None
        best = self._seeker.record.best
        return {
            "dimension": self.dimension,
            "per_minute": limit,
            "windowed": bool(best is not None and best.period),
            "kind": None if best is None else best.name,
            "measured_by": self._seeker.record.measured_by,
        }

    def restore(self, belief: Mapping[str, Any]) -> None:
        """Go on from what `belief` gave in an earlier run.

        Raises:
            ConfigurationError: it is none.
        """
        try:
            dimension, limit = belief["dimension"], float(belief["per_minute"]) / MINUTE
            exact, windowed = float(belief["measured_by"]), bool(belief["windowed"])
            if dimension not in ("requests", "tokens") or not (0 < limit < 1e12 and exact > 0):
                raise ValueError("out of range")
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{belief!r} is no belief about a limit ({error}): give what an Allowance or a "
                f"RateLimiter told of itself, or leave it out to learn anew"
            ) from None
        self._seeker = self._new()
        bound = self._bounds["tokens" if dimension == "tokens" else "requests"]
        limit = limit if bound is None else min(limit, bound / MINUTE)
        self._seeker.believe(dimension == "tokens", limit, belief.get("kind"), windowed=windowed)
        self._seeker.record.measured_by = exact
        self.active = True

    def rebase(self) -> None:
        """Follow another clock: what is believed stays, what the old one measured does not."""
        belief, active = self.belief(), self.active
        self._seeker, self._contradiction = self._new(), Contradiction()
        if belief is not None:
            self.restore(belief)
        self.active = active

    def _wake(self, at: float) -> None:
        """Begin with what is declared, which is believed until measures say otherwise.

        Where nothing is, as the server states its limits, search as if nothing were known.
        """
        self._seeker, self._contradiction = self._new(), Contradiction()
        requests, tokens = self._bounds["requests"], self._bounds["tokens"]
        if requests is None and tokens is not None:
            self._seeker.believe(True, tokens / MINUTE, None, windowed=False)
            self._seeker.record.is_restored = False
            self._seeker.course.ceiling = 1.0  # a unit is what is declared for a second
        if self._seeker.course.ceiling < math.inf:
            self._seeker.resume_at(self._seeker.course.ceiling, at)
        self.active = True

    def _new(self) -> Seeker:
        return Seeker(self._tuning, self._ceiling(), shared=self.shared)

    def _known(self) -> float | None:
        seeker = self._seeker
        return seeker.record.rate if seeker.course.state in KNOWN else None

    def _in_units(self) -> float:
        """Return what turns units of the seeker per second into real ones per minute."""
        sends = self._seeker.record.sends
        return MINUTE * (sends.scale * self._ratio if sends.dimension else 1.0)

    def _ceiling(self) -> float:
        bound = self._bounds["requests"]
        return math.inf if bound is None else bound / MINUTE
