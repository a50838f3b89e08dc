"""Finds the limit that nobody told, in requests or in tokens, and keeps just below it.

There is a ladder of evidence: a server tells its limit in headers, or how long to wait, or nothing
at all but a 429. The first is `Rates`' business, and while it lasts this rests. What remains is one
bit per 429; the stages in `learning` make the most of it. The idea: at two rejections the server's
allowance is empty, so what it accepted between them is what came in.

Tokens are counted as they were estimated, since that is known when a request is sent; how many
real ones those are is told. Which of the two dimensions is it? Every measure is taken in both; the
limit is the one that comes out the same again and again, whatever the requests look like.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.verdict import MINUTE, Dimension
from ...errors import ConfigurationError
from ..change import Change
from ..costs import LARGEST_COST
from .belief import believed
from .closed import Closed
from .contradiction import Contradiction
from .costs import LONG_ENOUGH, Costs, Intervals
from .finder import Finder
from .search import Climb, Depth
from .shared import Shared
from .stage import Belief, Stage
from .track import Track
from .trail import Measure, Sent, Trail
from .windowed import Windowed

TOLD = 0.05
"""A limit that moved by less is no news."""

CALIBRATION = 0.05
"""How much of the latest ratio of real to estimated tokens goes into the running mean."""

SHORTEST = 0.02
"""Seconds: no rate is taken from less."""

LONGEST_IDLE = 600.0
"""Seconds without a request after which what was learned may be dropped."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request as the learner knows it.

    Attributes:
        sent: in the dimension that is followed.
        trail: where that is noted; a ticket of an older one is ignored.
        requests, tokens: sent before it, from the beginning.
        cost: its tokens, as they were estimated.
    """

    sent: Sent
    trail: Trail
    requests: float
    tokens: float
    cost: float


class Learner:
    """What is believed of a server's limit, and when the next request may go.

    Args:
        requests_per_minute: never exceeded; None for no such bound.
        tokens_per_minute: likewise.

    With a bound it rests, and begins only when the server rejects what the bound allows; without
    one it searches from the first request. State: inside the `Allowance` that owns it.
    """

    __slots__ = (
        "_anchor",
        "_bounds",
        "_contradiction",
        "_costs",
        "_finder",
        "_intervals",
        "_ratio",
        "_told",
        "_totals",
        "active",
        "dimension",
    )

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        """Search, or rest."""
        self._bounds: dict[Dimension, float | None] = {
            "requests": requests_per_minute,
            "tokens": tokens_per_minute,
        }
        self.dimension: Dimension = "requests"
        self.active = requests_per_minute is None and tokens_per_minute is None
        self._totals = [0.0, 0.0]
        self._ratio = 1.0
        self._finder = Finder(ceiling=self._ceiling())
        self._anchor: deque[Ticket] = deque(maxlen=16)
        self._costs = Costs()
        self._intervals = Intervals()
        self._told: float | None = None
        self._contradiction = Contradiction()

    def wait(self, now: float, tokens: float = 0.0) -> float:
        """Return the seconds until a request of so many tokens may go."""
        return max(0.0, self.ready_at(tokens) - now)

    def ready_at(self, tokens: float = 0.0) -> float:
        """Return the instant from which a request of so many tokens may go."""
        return self._finder.ready_at(self._cost(tokens)) if self.active else -math.inf

    def sent(self, now: float, tokens: float = 0.0, held_until: float = -math.inf) -> Ticket:
        """Take note of a request that is sent now; the ticket comes back with what came of it.

        Args:
            now: the loop time, in seconds.
            tokens: its estimated cost.
            held_until: when the gate last let a call go; to wait there is not to have no work.
        """
        requests, before = self._totals
        finder = self._finder
        finder.hold_until(held_until)
        sent = finder.sent(now, self._cost(tokens))
        ticket = Ticket(sent, finder.trail, requests, before, tokens)
        self._totals[0] += 1.0
        self._totals[1] += tokens
        self._costs.sent(tokens)
        if finder.at_ceiling:
            self.active = False
        return ticket

    def accepted(self, now: float, ticket: Ticket, tokens: float | None = None) -> None:
        """Take note that the limit let it pass, and of what it really cost."""
        if ticket.trail is self._finder.trail:
            self._finder.accepted(now, ticket.sent)
        if tokens is not None and 0 < tokens < LARGEST_COST and ticket.cost > 0:
            self._ratio += CALIBRATION * (tokens / ticket.cost - self._ratio)

    def unsent(self, ticket: Ticket) -> None:
        """Take note that it never went."""
        if ticket.trail is self._finder.trail:
            self._finder.unsent(ticket.sent)

    def rejected(self, now: float, ticket: Ticket, hint: float = 0.0) -> None:
        """Take note that it was answered 429, with a wait in seconds where the server told one."""
        if ticket.trail is not self._finder.trail:
            return
        self._costs.rejected(ticket.cost)
        if (other := self._costs.tell()) is not None and other != self.dimension:
            self._follow(other)
            return
        before = self._finder.trail.anchor
        self._anchor.append(ticket)
        self._finder.rejected(now, ticket.sent, hint)
        after = self._finder.trail.anchor
        if before is not None and after is not None and after is not before:
            self._compare(before, after)

    def slow_down(self, now: float) -> None:
        """Take note that the pace grew too fast: that is no measure of the limit."""
        if self.active:
            self._finder.slow_down(now)

    def rejected_at_rest(self, sent_at: float, number: int) -> None:
        """Take note of a 429 that no limit explains: if that can be no chance, search.

        Args:
            sent_at: when the request was sent.
            number: how many were sent before it.
        """
        if self.active:
            return
        rate = self._contradiction.add(number, sent_at)
        if rate is not None:
            self._begin(Climb(min(rate * 0.8, self._ceiling()), rate / 50, Depth.unknown(1.0)))

    def stated(self, dimension: Dimension) -> None:
        """Rest: the server states the limit of this dimension by itself."""
        if dimension == self.dimension or not self._known():
            self.active = False

    def bound(self, dimension: Dimension, per_minute: float | None) -> None:
        """Never exceed so much; rest until that is rejected."""
        self._bounds[dimension] = per_minute
        self.active = False

    def news(self) -> Change | None:
        """Return how the belief changed since it was last told, or None."""
        stage = self._finder.stage
        limit = self._known()
        if not self.active or limit is None:
            return None
        old, new = self._told, limit * self._in_units()
        if old is not None and abs(new / old - 1.0) <= TOLD:
            return None
        self._told = new
        return Change(self.dimension, old, new, f"learned: {stage.why}")

    @property
    def limit(self) -> float | None:
        """Units per minute that are believed in, or None while nothing is known."""
        known = self._known() if self.active else None
        return None if known is None else known * self._in_units()

    @property
    def pace(self) -> float | None:
        """Units per minute that are aimed at now, or None at rest."""
        return self._finder.pace() * self._in_units() if self.active else None

    @property
    def waits_for(self) -> str:
        """In a few words, why a request would wait."""
        if not self.active:
            return "the limit is used up"
        if isinstance(self._finder.stage, Closed):
            return "the server lets nothing through"
        return "the limit is being learned" if self.limit is None else "the limit is used up"

    def idle(self, now: float) -> bool:
        """Whether it was not used for so long that what it knows may be dropped."""
        return not self.active or now - self._finder.last_sent > LONGEST_IDLE

    def ready_behind(self, requests: float, tokens: float, now: float) -> float:
        """Return when one more could go, once so many others have."""
        if not self.active:
            return -math.inf
        queued = requests if self.dimension == "requests" else tokens
        return max(now, self._finder.ready_at(1.0)) + queued / self._finder.pace()

    @property
    def evidence(self) -> str:
        """In a few words, what the belief rests on."""
        return self._finder.stage.why if self.active else "at rest: nothing contradicts the limits"

    def belief(self) -> dict[str, Any] | None:
        """Return what is believed as a value that JSON can hold, or None while nothing is."""
        belief = self._finder.stage.belief() if self.active else None
        if belief is None:
            return None
        return {
            "dimension": self.dimension,
            "per_minute": belief.limit * MINUTE,
            "windowed": belief.windowed,
            "measured_by": belief.exact,
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
        self.dimension = dimension
        unit = 1.0 if dimension == "requests" else limit
        self._begin(believed(Belief(min(limit, self._ceiling()), windowed, exact), unit), unit)

    def rebase(self) -> None:
        """Follow another clock: what is believed stays, what the old one measured does not."""
        self._finder.start_over()
        self._anchor.clear()
        self._contradiction = Contradiction()

    def _known(self) -> float | None:
        stage = self._finder.stage
        return stage.limit if isinstance(stage, Track | Windowed | Shared) else None

    def _cost(self, tokens: float) -> float:
        if self.dimension == "requests":
            return 1.0
        return max(1.0, tokens)

    def _in_units(self) -> float:
        """Return what turns estimated units per second into real ones per minute."""
        return MINUTE * (self._ratio if self.dimension == "tokens" else 1.0)

    def _ceiling(self) -> float:
        bound = self._bounds[self.dimension]
        return math.inf if bound is None else bound / self._in_units()

    def _begin(self, stage: Stage, unit: float = 1.0) -> None:
        self._finder = Finder(unit, self._ceiling(), stage)
        self.active = True
        self._anchor.clear()
        self._intervals.clear()
        self._costs.start_over()
        self._contradiction = Contradiction()

    def _compare(self, before: Sent, after: Sent) -> None:
        """See which dimension the limit is in, by what passed between two rejections."""
        tickets = {id(each.sent): each for each in self._anchor}
        first, last = tickets.get(id(before)), tickets.get(id(after))
        if first is None or last is None or after.at <= before.at:
            return
        seconds = after.at - before.at
        requests = (last.requests - first.requests - 1.0) / seconds
        tokens = (last.tokens - first.tokens - first.cost) / seconds
        mine = 0 if self.dimension == "requests" else 1
        if requests * seconds >= LONG_ENOUGH and self._intervals.add(requests, tokens, mine):
            self._turn_to(1 - mine, first, last)

    def _follow(self, other: Dimension) -> None:
        """Begin with the other dimension, from somewhat less than what is sent of it now."""
        mean = max(1.0, self._costs.mean)
        pace = self._finder.pace() * (mean if other == "tokens" else 1.0 / mean) * 0.7
        unit = mean if other == "tokens" else 1.0
        self.dimension = other
        climb = Climb(pace, pace / 20, Depth.unknown(unit))
        which = "largest" if other == "tokens" else "smallest"
        climb.why = f"the {which} requests are rejected most"
        self._begin(climb, unit)
        self._told = None

    def _turn_to(self, other: int, first: Ticket, last: Ticket) -> None:
        passed = (last.requests, last.tokens)[other] - (first.requests, first.tokens)[other]
        unit = self._totals[other] / max(1.0, self._totals[0])
        self.dimension = "requests" if other == 0 else "tokens"
        measure = Measure(passed, last.sent.at - first.sent.at, unit)
        stage = Track(self._intervals.mean(other), measure.sends, Depth.unknown(unit), 15.0)
        stage.why = f"{self.dimension} vary least between two 429s"
        self._begin(stage, unit)
        self._told = None
