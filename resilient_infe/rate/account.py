"""A limit over all models of an account, outside of the limits of each model.

An attempt takes from both limits at the same instant, or from neither. If it took from one and then
waited for the other, what it holds would be lost to the calls that could use it, and a limit would
count it long before it is sent. So a waiting call stands in one queue, that of its model, and what
is at the head of each queue competes for the account. There are four cases:

1. A head does not fit its model's limit. The account does not wait for it.
2. A head fits its model's limit, and the account's. Of several the one of the highest class goes
   first, and of a class the oldest call.
3. The oldest of those that fit their models' limits does not fit the account's. All others wait:
   small requests of another model must not starve a large one.
4. A call comes while another waits for the account. It joins its model's queue: the account is
   granted by age, whatever the model.

The account's limit learns nothing. A 429 does not say which limit it is about, so it teaches the
limit of the model.
"""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Literal

from ..core import bounds
from ..core.shared import Shared
from ..errors import ConfigurationError
from .allowance import Allowance
from .costs import Costs
from .reservation import Reservation
from .snapshots import AllowanceStatistics

NOT_SHARED = ("max_waiting", "belief")
"""Arguments of `Allowance` that an account does not have: its queues are those of the models."""


class Account(Shared):
    """A rate limit that all partitions share, besides the limits of their own.

    Args:
        requests_per_minute: the limit, above 0; None if there is none.
        tokens_per_minute: the same for tokens. One of the limits must be declared.
        burst: the seconds of the rate that can be sent at once, as for `Allowance`; 1 by default.
        share: the part of the limits that this process may use, in (0, 1]; 1 by default.
        others: further limits of `Allowance`, by name.

    Raises:
        ConfigurationError: no limit is declared, or a value is out of range.

    Attributes:
        allowance: the account's limit.

    State: shared by every `RateLimiter` that is given the object. If several of them share an
    `Allowance`, they must share its account too.
    """

    __slots__ = ("__weakref__", "_members", "_outer_of", "_waiter", "allowance")

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        burst: float | Literal["window"] = 1.0,
        share: float = 1.0,
        **others: Any,
    ) -> None:
        _check_names(others)
        self.allowance = Allowance(
            requests_per_minute, tokens_per_minute, burst=burst, share=share, **others
        )
        limits = [each for name, each in others.items() if "_per_" in name]
        if all(each is None for each in (requests_per_minute, tokens_per_minute, *limits)):
            raise ConfigurationError(
                "an account's limit is not learned: declare it, as in "
                "Account(requests_per_minute=2_000)"
            )
        self._members: dict[Allowance, None] = {}  # those in whose queues calls may wait
        self._outer_of: dict[Reservation, Reservation] = {}
        # The head that waits for the account: its allowance, itself, and what it waits for here.
        self._waiter: tuple[Allowance, Reservation, Reservation] | None = None

    @property
    def busy(self) -> bool:
        """Whether a reservation is open or waits. Then only the current loop may use this."""
        return self.allowance.busy or self.waiting > 0

    @property
    def waiting(self) -> int:
        """The number of waiting reservations, in the queues of all models."""
        return sum(member.waiting for member in self._members)

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for this limit, and not only for that of its model."""
        waiter = self._waiter
        return waiter is not None and not (waiter[1].granted or waiter[1].gone)

    @property
    def due(self) -> float | None:
        """The loop time at which `poll` may grant the next reservation; None if none waits."""
        waiting = [(member, member.line.queue.head()) for member in self._members]
        if not self.is_awaited:
            times = [member.due for member, head in waiting if head is not None]
            return min([time for time in times if time is not None], default=None)
        assert self._waiter is not None
        turn, due = _turn(self._waiter[1]), self.allowance.due
        # One that goes first may come to the head of another queue, or fit there, before that.
        first = [member.due for member, head in waiting if head is not None and _turn(head) < turn]
        return min([time for time in (due, *first) if time is not None], default=None)

    def admit(
        self,
        member: Allowance,
        costs: Costs,
        now: float,
        place: int | None = None,
        rank: int | None = None,
    ) -> Reservation | None:
        """Return a reservation of both limits, granted; None if the call has to wait.

        Args:
            member: the allowance of the call's model.
            costs: the estimated costs.
            now: the loop time, in seconds.
            place: the age of the call as a number; None for the end of the queue.
            rank: the class of the call; None while no call has had a priority.
        """
        if member.waiting or self.is_awaited:
            return None
        outer = self.allowance.admit(costs, now, place, rank)
        if outer is None:
            return None
        reservation = member.admit(costs, now, place, rank)
        if reservation is None:
            self.allowance.cancel(outer, now)
            return None
        self._outer_of[reservation] = outer
        return reservation

    def await_in(self, member: Allowance) -> None:
        """Note that a call waits in the queue of a model's allowance."""
        self._members[member] = None

    def poll(self, now: float) -> Iterator[Reservation]:
        """Grant the reservations that fit both limits now, oldest call first, and yield each."""
        for member in [each for each in self._members if not each.waiting]:
            del self._members[member]
        yield from self._turned_away(now)
        ready = [entry for member in self._members for entry in _entry(member, now)]
        heapq.heapify(ready)
        while ready:
            _, _, member, head = heapq.heappop(ready)
            outer = self._outer_for(member, head, now)
            if outer is None:
                return
            granted = next(iter(member.poll(now)), None)
            if granted is None:  # it does not fit after all
                self.allowance.cancel(outer, now)
                continue
            self._outer_of[granted] = outer
            for entry in _entry(member, now):
                heapq.heappush(ready, entry)
            yield granted
        self._stop_waiting(now)  # what waited here does not fit its model's limit any more

    def pop(self, reservation: Reservation) -> Reservation | None:
        """Return what a reservation holds of this limit, to be settled or refunded; else None."""
        return self._outer_of.pop(reservation, None)

    def abandon(self) -> None:
        """End all reservations and forget who waits: their loop was closed."""
        self.allowance.abandon()
        self._members.clear()
        self._outer_of.clear()
        self._waiter = None

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.allowance.rebase(seconds)

    def statistics(self, now: float) -> AllowanceStatistics:
        """Return a frozen snapshot; calls that wait for their model's limit are `waiting` too."""
        return replace(self.allowance.statistics(now), waiting=self.waiting)

    def _outer_for(self, member: Allowance, head: Reservation, now: float) -> Reservation | None:
        """Return what a head gets of this limit; None, and let it wait, if it does not fit."""
        waiter = self._waiter
        if waiter is not None and waiter[1] is head:
            for _ in self.allowance.poll(now):
                self._waiter = None
                return waiter[2]
            return None
        self._stop_waiting(now)
        allowance, standing = self.allowance, head.standing
        rank = standing.rank if member.line.ranked else None
        outer = allowance.admit(head.costs, now, head.place, rank)
        if outer is None:
            queued = allowance.enqueue(head.costs, head.place, again=True, standing=standing)
            self._waiter = member, head, queued
        return outer

    def _turned_away(self, now: float) -> Iterator[Reservation]:
        """End and yield the heads for which a day has no room, here or in their model's limit."""
        for member in self._members:
            while (head := member.line.queue.head()) is not None:
                until = max(each.days_full_until(head.costs) for each in (member, self.allowance))
                if not member.turn_away(head, until, now):
                    break
                yield head

    def _stop_waiting(self, now: float) -> None:
        if self._waiter is not None:
            self.allowance.cancel(self._waiter[2], now)
            self._waiter = None

    def __repr__(self) -> str:
        return f"<Account {self.allowance}, {self.waiting} waiting>"

    def __str__(self) -> str:
        """Return the limits in words."""
        return str(self.allowance)


def _turn(head: Reservation) -> tuple[int, int]:
    """Return what orders the heads: the class, then the age of the call."""
    return head.standing.rank, head.place


def _entry(
    member: Allowance, now: float
) -> Iterator[tuple[tuple[int, int], int, Allowance, Reservation]]:
    """Yield the head of a queue, ordered by its turn, if it fits its model's limit."""
    due, head = member.due, member.line.queue.head()
    if head is not None and due is not None and due <= now:
        yield _turn(head), id(member), member, head


def account_of(given: Account | Mapping[str, float] | None) -> Account | None:
    """Return an account that is given as an object, or as a mapping of its arguments.

    Raises:
        ConfigurationError: it is something else, or a value is out of range.
    """
    if isinstance(given, Mapping):
        given = Account(**{str(name): value for name, value in given.items()})
    if given is not None:
        instead = "Account(requests_per_minute=...), or a mapping of its arguments"
        bounds.instance(given, Account, "account", instead)
    return given


def _check_names(given: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(Allowance).parameters if name not in NOT_SHARED]
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            hint = f"do you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise ConfigurationError(f"an account has no {name!r}: {hint}")
