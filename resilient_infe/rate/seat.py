"""What an allowance says to other processes that use its limit, and what it hears from them.

`shared` decides what share a process has. This is the allowance's end of it: the need by class, and
the lease that makes the share hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ..core.call import Call, InFlight
from ..core.queue import NORMAL
from ..core.verdict import DAY
from ..shared.member import Demand, Member
from ..shared.shares import RedisShares
from .account import Account
from .allowance import Allowance
from .costs import NOTHING
from .lease import Lease
from .line import Line
from .window import Window

RECENT = 2.0, 10.0
"""Seconds over which the attempts of late are counted: since the last look, within these bounds."""

LEEWAY = 4.0
"""Times what the slots could send at once that calls which wait for a slot may add to a need."""


class Seat:
    """The place of an allowance among those that use the same limit.

    Args:
        allowance: the limit.
        name: the name by which other processes know it.
        lines: returns the queues of those that wait for it.
        pumped: what grants them: the allowance, or the account.

    Attributes:
        allowance, name, pumped: the arguments of these names.
        emit: passes on events; None while nobody listens.
        crowd: the attempts of the calls that come here, and how many wait for a slot before they
            can; None without slots.

    State: one per process and limit.
    """

    __slots__ = ("_asked", "_gate_until", "_granted", "_lines", "_looked", "_mix", "allowance",
                 "crowd", "emit", "name", "pumped")  # fmt: skip

    def __init__(
        self, allowance: Allowance, name: str, lines: Callable[[], Iterable[Line]], pumped: Any
    ) -> None:
        self.allowance, self.name, self._lines, self.pumped = allowance, name, lines, pumped
        self.emit: Callable[[Any], None] | None = None
        self.crowd: InFlight | None = None
        self._asked, self._granted, self._looked = [0, 0, 0], 0, -math.inf
        self._mix = (0.0, 1.0, 0.0)  # the classes of the calls of late
        self._gate_until = -math.inf  # when the gate opens that was last heard of

    def demand(self, now: float) -> Demand:
        """Return what would be sent now."""
        allowance, gate = self.allowance, self.allowance.gate
        requests, tokens = allowance.granted
        seconds = min(RECENT[1], max(RECENT[0], now - self._looked))
        sends = (requests - self._granted) / max(0.01, now - self._looked)
        self._granted, self._looked = requests, now
        lines = list(self._lines())
        costs = zip(NOTHING, *(each.queued for each in lines), strict=True)
        queued = [sum(each) for each in costs]
        waiting = sum(each.queue.live for each in lines)
        waits, recent = allowance.needs((queued[0], queued[1], queued[2], queued[3]), seconds, now)
        waits = self._with_queued(waits, recent, waiting)
        shut = gate.ends - now if now < gate.until and gate.ends > self._gate_until + 1.0 else 0.0
        return Demand(
            needs=self._by_class(lines, waits, recent),
            sends=sends,
            waiting=waiting,
            requests=requests,
            tokens=tokens,
            a_day=bool(allowance.days),
            gate=min(max(0.0, shut), DAY),
        )

    def apply(self, member: Member, ahead: float, asks_at: float, now: float) -> None:
        """Use the share that the process has.

        Args:
            member: the share.
            ahead: the seconds until it may change.
            asks_at: the loop time by which it may change.
            now: the loop time, in seconds.
        """
        others = [0.0, 0.0]
        for each in self.allowance.days:
            own = each.ledger.spent(now)
            others[min(1, each.index)] = max(0.0, member.spent[min(1, each.index)] - own)

        def part(window: Window) -> float:
            if not window.paced:
                return max(0.0, 1.0 - others[min(1, window.index)] / window.limit)
            return member.part(window.period, ahead, now)

        lease = Lease(member.pace, part, member.until, asks_at)
        self.allowance.use(lease if self.allowance.is_limited else None, now)

    def shut(self, seconds: float, now: float) -> bool:
        """Shut the gate because another process was told to wait; return whether that is news."""
        until = now + seconds
        if seconds <= 0.0 or until <= self._gate_until + 1.0:
            return False
        self._gate_until = until
        return self.allowance.gate.heard(until, now, "another process was told to wait")

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self._looked += seconds
        self._gate_until += seconds

    def _with_queued(self, waits: float, recent: float, waiting: int) -> float:
        """Return the need of what waits, with the calls that wait for a slot before they can.

        All slots may be held by calls that wait here. If these went at once, as many more could be
        sent as there are of them for each one in flight: 60 of 64 slots wait, 4 are in flight at 8
        a second, so 120 a second more could be. A far larger share could not be used; `LEEWAY` is
        for how much the number in flight differs from one look to the next.
        """
        crowd = self.crowd
        if crowd is None or waiting == 0:
            return waits
        most = LEEWAY * recent * waiting / max(1, crowd.in_flight)
        return max(waits, min(waits * (1.0 + crowd.queued / waiting), most))

    def _by_class(
        self, lines: list[Line], waits: float, recent: float
    ) -> tuple[float, float, float]:
        """Divide what waits by who waits, and what was sent by who came."""
        if not any(each.ranked for each in lines):
            needs = [0.0, 0.0, 0.0]
            needs[NORMAL] = waits + recent
            return needs[0], needs[1], needs[2]
        asked = [sum(each.asked[rank] for each in lines) for rank in range(3)]
        came = [max(0, new - old) for new, old in zip(asked, self._asked, strict=True)]
        self._asked = asked
        if sum(came) > 0:
            self._mix = _divided(came)
        waiting = [sum(each.queue.waiting()[rank] for each in lines) for rank in range(3)]
        queue = _divided(waiting) if sum(waiting) > 0 else self._mix
        first, second, third = (
            waits * part + recent * mix for part, mix in zip(queue, self._mix, strict=True)
        )
        return first, second, third


ONE, ACCOUNT, PARTITION = "all", "account", "model:"
"""The names of limits that are not of a partition, and what begins that of one which is."""


def join(
    shares: RedisShares,
    call: Call[Any],
    allowance: Allowance,
    account: Account | None,
    *,
    one: bool,
) -> None:
    """Let the limits of a call have their shares, if they have none yet.

    Args:
        shares: what they have in common with other processes.
        call: the call.
        allowance: the limit of its partition.
        account: the limit over all partitions; None if there is none.
        one: whether one allowance serves all partitions.
    """
    if not shares.knows(allowance, call.runtime):
        name = ONE if one else f"{PARTITION}{call.partition or ''}"
        pumped = allowance if account is None else account
        _take(shares, call, Seat(allowance, name, lambda: [allowance.line], pumped))
    if account is not None and not shares.knows(account.allowance, call.runtime):
        _take(shares, call, Seat(account.allowance, ACCOUNT, account.lines, account))


def _take(shares: RedisShares, call: Call[Any], seat: Seat) -> None:
    seat.emit, seat.crowd = call.emit, call.state.crowd
    shares.join(seat, call.runtime)


def _divided(counts: list[int]) -> tuple[float, float, float]:
    total = sum(counts)
    return counts[0] / total, counts[1] / total, counts[2] / total
