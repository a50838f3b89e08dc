"""What one process holds of one limit: its share, for how long, and what that allows.

*A lease.* A share is the member's own until its lease ends, counted from when it asked. The store
counts from when it was asked, which is later, and gives the share to nobody before. A process that
was frozen finds its lease over when it wakes, and sends nothing before it has asked again.

*Redis is gone.* Until the lease ends, the member goes on with its share: nobody can get a part of
it. After that the store may have given it away, if only this member is cut off. There are three
choices: ``"keep"`` goes on with the last share, but no more than an equal part; ``"stop"`` sends
nothing; a number is the share to use. With ``"keep"``, the sum stays within the limit if all are
cut off, and exceeds it by an equal part for each of those that are cut off alone.

*A running window.* Another member may have sent what the running minute allows, so a share of the
limit is not a share of the minute. A member may use in a window what its shares over this window
come to. All of them together stay below the limit, however shares move.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from .script import Answer, Asked

OnLoss: TypeAlias = Literal["keep", "stop"] | float
"""What a member does when its lease is over and the store does not answer."""


@dataclass(frozen=True, slots=True)
class SharesTuning:
    """The numbers of shared limits."""

    fastest: float = 0.5
    """Seconds between two calls to the store, at least."""

    slowest: float = 5.0
    """Seconds between two calls while there is something to send, at most."""

    calls_per_send: float = 0.3
    """Calls to the store for each attempt that is sent, at most, unless `slowest` is reached."""

    most_saved: float = 4.0
    """Calls that may be made before their time, at most; they are saved by attempts that are sent.
    """

    calls_of_all: float = 2_000.0
    """Calls a second of all members together, at most: what Redis does in a tenth of a core."""

    lease: float = 10.0
    """Seconds for which a share is kept for a member that is not heard of; or three beats."""

    timeout: float = 1.0
    """Seconds after which a call to the store counts as lost."""

    headroom: float = 2.0
    """What a member may hold, in multiples of its need. The script has the same number."""

    steady: float = 0.05
    """The part by which a need must change before it is told: what is given up by chance is free
    until another member asks."""

    pace: float = 0.99
    """The part of a share that is used: sends are squeezed together on their way, and members begin
    and end to send at different instants."""

    burst: float = 1.0
    """Seconds of its share that a window may have beyond what its shares come to: `SHARED_BURST` of
    the bucket, which is less, bounds what is sent at once."""

    span: float = 60.0
    """Seconds of shares that are remembered: the longest window that counts them."""


DEFAULT = SharesTuning()


@dataclass(frozen=True, slots=True)
class Demand:
    """What a process would send, if it could.

    Attributes:
        needs: what it could send per second, by class, in parts of the limit.
        sends: the attempts per second of late.
        waiting: the calls that wait.
        requests, tokens: what was spent since the process began, if a day is limited.
        a_day: whether a day is limited.
        gate: the seconds for which a gate that concerns all is shut; 0 if it is open.
    """

    needs: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sends: float = 0.0
    waiting: int = 0
    requests: float = 0.0
    tokens: float = 0.0
    a_day: bool = False
    gate: float = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether something was sent, or waits."""
        return self.sends > 0.0 or self.waiting > 0 or sum(self.needs) > 0.0


NONE = Demand()


class Member:
    """The share of one process in one limit.

    Args:
        on_loss: what it does when it is cut off from the store for longer than its lease.
        tuning: the numbers of shared limits.
        copy: tells limits of the same name in one process apart.

    Attributes:
        copy: the argument of this name.
        share: the part of the limit that it may use now.
        until: the loop time at which the lease ends; minus infinity while it has none.
        members: how many use the limit, as far as is known; 0 before the first answer.
        demand: what it would have sent when it last asked.
        changes: whether the last answer took a part that others wait for, or began to give.
        spent: the requests and tokens that all members spent in 24 hours, if a day is limited.

    State: one per process and limit.
    """

    __slots__ = ("_is_cut_off", "_last", "_on_loss", "_past", "_told", "_tuning", "changes", "copy",
                 "demand", "members", "share", "spent", "until")  # fmt: skip

    def __init__(
        self, on_loss: OnLoss = "keep", tuning: SharesTuning = DEFAULT, copy: int = 0
    ) -> None:
        self._on_loss, self._tuning, self.copy = on_loss, tuning, copy
        self.share, self.until, self.members = 0.0, -math.inf, 0
        self.demand, self.changes = NONE, False
        self._is_cut_off, self._last = False, 0.0
        self.spent = self._told = (0.0, 0.0)
        # The shares of the last minute, each with the loop time from which it was held.
        self._past: deque[tuple[float, float]] = deque()

    def asks(self, demand: Demand, now: float) -> Asked:
        """Return what to tell the store; what is not needed is given up before it is told."""
        needs = self.demand.needs
        if all(
            abs(new - old) <= self._tuning.steady * old
            for old, new in zip(needs, demand.needs, strict=True)
        ):
            demand = replace(demand, needs=needs)
        self.demand = demand
        if now >= self.until:
            self._hold(0.0, now)
        elif not self._is_cut_off:  # else it could not get it back
            self._hold(min(self.share, self._tuning.headroom * sum(demand.needs)), now)
            self._last = self.share
        spent = demand.requests - self._told[0], demand.tokens - self._told[1]
        return Asked(self.share, demand.needs, *spent, demand.a_day, demand.gate, self.copy)

    def leaves(self, demand: Demand, now: float) -> Asked:
        """Return what to tell the store at the end; nothing is sent any more."""
        self.until = -math.inf
        return replace(self.asks(demand, now), held=0.0, needs=(0.0, 0.0, 0.0), gate=0.0)

    def answered(self, answer: Answer, until: float, now: float) -> None:
        """Use the share that the store has given, until the loop time `until`."""
        self._is_cut_off = False
        self.changes = answer.share < 0.95 * self.share or (
            self.demand.waiting > 0 and min(self.share, answer.share) <= 0.0
        )
        self.until, self.members = until, max(1, answer.members)
        self.spent = answer.requests, answer.tokens
        self._told = self.demand.requests, self.demand.tokens
        self._hold(answer.share, now)
        self._last = self.share

    def lost(self, until: float, now: float) -> None:
        """Go on without the store, which does not answer, up to the loop time `until` at least."""
        self._is_cut_off = True
        if until <= self.until:
            return  # the lease is as long
        choice = self._on_loss
        if not isinstance(choice, str):
            share = choice
        elif choice == "keep":
            share = min(self._last, 1.0 / max(1, self.members))
        else:
            share, until = (self.share if now < self.until else 0.0), self.until
        self.until = until
        self._hold(share, now)

    @property
    def pace(self) -> float:
        """The part of the limit at which sends are paced."""
        return self.share * self._tuning.pace

    def part(self, period: float, ahead: float, now: float) -> float:
        """Return the part of the limit that a window of `period` seconds up to now may have.

        Args:
            period: the length of the window in seconds; one of over a minute may have all.
            ahead: the seconds for which the answer is used.
            now: the loop time, in seconds.
        """
        if period > self._tuning.span:
            return 1.0
        begin, until = now - period, now
        held = self.share * (self._tuning.burst + ahead)
        for since, share in reversed(self._past):
            held += share * (until - max(since, begin))
            until = since
            if since <= begin:
                break
        return min(1.0, held / period)

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self.until += seconds
        self._past = deque((since + seconds, share) for since, share in self._past)

    def _hold(self, share: float, now: float) -> None:
        if share != self.share or not self._past:
            self.share = share
            self._past.append((now, share))
        begin = now - self._tuning.span
        while len(self._past) > 1 and self._past[1][0] <= begin:
            self._past.popleft()
