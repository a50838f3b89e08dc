"""Whose turn it is, of the calls at the heads of the queues of several models.

An account is one limit with many queues, but classes and tenants get of it what one queue would
give them (see `core.priority`):

1. *Classes are served in order.* What a class is owed is counted here, over all models, and in the
   queue of each model, over that model. As long as a model has room for more than one call, only
   what is counted here matters: a call gets what its class is owed here even if it stands behind
   one of a higher class in its own queue. If the model has not, that would take the room from the
   higher class, so what its own queue owes matters.
2. *Tenants share the account fairly, by cost over all models.* The queues share the tags while
   calls wait for the account, and for a minute after that.
3. *Else the oldest call goes first*, whatever its model.

Until the first call with a class or a tenant waits, only the third rule is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from ..core.fair import Shares
from ..core.priority import PRIORITIES, ClassQueue, Credit
from ..core.queue import BATCH, NORMAL, ORDINARY, Standing
from ..core.verdict import MINUTE
from .allowance import Allowance
from .reservation import Reservation

Head: TypeAlias = tuple[Allowance, Reservation]
"""The allowance of a model, and a call that waits in its queue."""


class Turn(NamedTuple):
    """Who is next.

    Attributes:
        member: the allowance of its model.
        waiting: its reservation.
        owed: whether the guaranteed share of its class pays for it.
        saves: by class, what the first call of it costs at most, of all models that have room; 0
            if none waits.
        top: the highest class that waits.
    """

    member: Allowance
    waiting: Reservation
    owed: bool = False
    saves: tuple[float, ...] = ()
    top: int = 0


class Turns:
    """The order among the queues of several models.

    Args:
        trickle: the share of what is granted that each class below the highest is guaranteed.

    State: inside the `Account` that owns it.
    """

    __slots__ = ("_credit", "_shares", "_trickle", "_until")

    def __init__(self, trickle: float) -> None:
        self._trickle = trickle
        self._credit = Credit(trickle)
        self._shares: tuple[Shares, ...] | None = None  # by class, once a call has one
        self._until = -math.inf  # the shares are in use

    def join(self, member: Allowance, members: Iterable[Allowance], standing: Standing) -> None:
        """Note that a call of this standing is to wait in the queue of one of the members."""
        if self._shares is not None:
            member.line.share(self._shares)
        elif standing != ORDINARY:
            self._shares = tuple(Shares() for _ in PRIORITIES)
            for each in members:
                each.line.share(self._shares)

    def anew(self) -> Turns:
        """Return one that knows of no queue and no call yet."""
        return Turns(self._trickle)

    def start_over(self) -> None:
        """Forget what was owed: nobody waits."""
        self._credit.start_over()

    def look(self, now: float) -> None:
        """Let each model share its own limit alone, if nobody waited for the account of late."""
        for each in self._shares or ():
            each.in_use = each.in_use and now < self._until

    def awaited(self, now: float) -> None:
        """Note that a call waits for the account."""
        self._until = now + MINUTE
        for each in self._shares or ():
            if not each.in_use:
                each.start_over()
                each.in_use = True

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instant, because the clock has changed."""
        self._until += seconds

    def next(self, ready: Iterable[Allowance], now: float) -> Turn:
        """Return who is next in the queues whose heads fit their models' limits."""
        heads = [(each, head) for each in ready if (head := each.line.queue.head()) is not None]
        if self._shares is None:
            return Turn(*min(heads, key=_age))
        heads = [(each, _head(each, head, now)) for each, head in heads]
        top = min(_classes(member).top for member, _ in heads)
        firsts = [_firsts(heads, rank) for rank in range(len(PRIORITIES))]
        saves = tuple(max((each[1].cost for each in first), default=0.0) for first in firsts)
        for rank in (BATCH, NORMAL):
            first = self._owed(firsts[rank], rank, heads, now) if rank > top else None
            if first is not None:
                return Turn(*first, True, saves, top)
        owed = [(m, head) for m, head in heads if head.standing.rank > _classes(m).top]
        if owed:
            return Turn(*min(owed, key=_age), True, saves, top)
        return Turn(*min(firsts[top], key=_order), False, saves, top)

    def _owed(self, firsts: list[Head], rank: int, heads: list[Head], now: float) -> Head | None:
        """Return the call of a class that is next, if the credit pays for it."""
        pays = self._credit.pays
        if not any(pays(rank, waiting.cost) for _, waiting in firsts):
            return None
        head_of = dict(heads)
        fit = [
            (member, waiting)
            for member, waiting in firsts
            if waiting is head_of[member] or _both_fit(member, head_of[member], waiting, now)
        ]
        first = min(fit, key=_order, default=None)
        return first if first is not None and pays(rank, first[1].cost) else None

    def grant(self, turn: Turn) -> None:
        """Note that it was granted."""
        saves, waiting = turn.saves, turn.waiting
        if saves:
            self._credit.grant(
                waiting.standing.rank, turn.top, saves, waiting.cost or 1.0, saves.__getitem__
            )


def _age(head: Head) -> int:
    return head[1].place


def _classes(member: Allowance) -> ClassQueue[Reservation]:
    queue = member.line.queue
    assert isinstance(queue, ClassQueue)  # since `Turns.join`
    return queue


def _head(member: Allowance, head: Reservation, now: float) -> Reservation:
    """Return who is first in a queue, as long as what its model owes a lower class is no matter."""
    queue = _classes(member)
    highest = queue.next_of(queue.top)
    if highest is not None and highest is not head and _both_fit(member, head, highest, now):
        return highest
    return head


def _firsts(heads: list[Head], rank: int) -> list[Head]:
    """Return the first call of a class in each queue in which one waits."""
    return [
        (member, waiting)
        for member, _ in heads
        if (waiting := _classes(member).next_of(rank)) is not None
    ]


def _order(first: Head) -> tuple[float, int]:
    """Return what orders the first calls of a class."""
    member, waiting = first
    return _classes(member).tag(waiting.standing.rank), waiting.place


def _both_fit(member: Allowance, head: Reservation, waiting: Reservation, now: float) -> bool:
    """Whether a model has room for one that is behind the head of its queue, and for the head."""
    # It would have been idle before: both may fit as a debt, and then the head has to wait longer.
    if member.due_of(head.costs, owed=True) + member.refills_in(waiting.costs) > now:
        return False
    one, two, three, four = (a + b for a, b in zip(head.costs, waiting.costs, strict=True))
    return member.due_of((one, two, three, four), owed=True) <= now
