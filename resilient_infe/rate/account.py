"""A limit over all models of an account, outside of the limits of each model.

An attempt takes from both limits at the same instant, or from neither. If it took from one and then
waited for the other, what it holds would be lost to the calls that could use it, and a limit would
count it long before it is sent. So a waiting call stands in one queue, that of its model, and what
is at the head of each queue competes for the account. There are four cases:

1. A head does not fit its model's limit. The account does not wait for it.
2. A head fits its model's limit, and the account's. It is granted; of several, the one whose turn
   it is: see `turns`.
3. The first of those that fit their models' limits does not fit the account's. All others wait:
   small requests of another model must not starve a large one.
4. A call comes while another waits for the account. It joins its model's queue, and gets its turn.

The account's limit learns nothing. A 429 does not say which limit it is about, so it teaches the
limit of the model.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Literal

from ..core import bounds
from ..core.priority import TRICKLE
from ..core.queue import INTERACTIVE, ORDINARY, Standing
from ..core.shared import Shared
from ..errors import ConfigurationError
from .allowance import Allowance
from .costs import Costs
from .line import Line
from .reservation import Reservation
from .snapshots import AllowanceStatistics
from .turns import Turn, Turns

NOT_SHARED = ("max_waiting", "belief", "shared")
"""Arguments of `Allowance` that an account does not have: it learns nothing, and has no queue."""

HIGHEST = Standing(INTERACTIVE)
"""The standing of what a class is owed, in the account."""


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

    __slots__ = ("__weakref__", "_looked", "_members", "_outer_of", "_turns", "_waiter",
                 "allowance")  # fmt: skip

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
        self._turns = Turns(others.get("trickle", TRICKLE))
        self._looked = -math.inf  # the loop time of the last poll
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

    def lines(self) -> list[Line]:
        """Return the queues of all models."""
        return [member.line for member in self._members]

    def belief(self, now: float | None, wall: float) -> dict[str, Any] | None:
        """Return what was spent of a day, as `Allowance.belief` does; None for nothing."""
        return self.allowance.belief(now, wall)

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for this limit, and not only for that of its model."""
        waiter = self._waiter
        return waiter is not None and not (waiter[1].granted or waiter[1].gone)

    @property
    def due(self) -> float | None:
        """The loop time at which `poll` may grant the next reservation; None if none waits."""
        times = [time for each in self._members if (time := each.due) is not None]
        if self.is_awaited and (outer := self.allowance.due) is not None:
            # Those that had room when `poll` looked wait for the account too.
            times = [outer, *(time for time in times if time > self._looked)]
        return min(times, default=None)

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
        if rank is not None:
            for each in (member, self.allowance):
                each.line.note(rank, now)
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

    def await_in(self, member: Allowance, standing: Standing = ORDINARY) -> None:
        """Note that a call of this standing is to wait in the queue of a model's allowance."""
        if not self.waiting:
            self._turns.start_over()
        self._members[member] = None
        member.line.price = self.allowance.cost_for_tenant
        self._turns.join(member, self._members, standing)

    def poll(self, now: float) -> Iterator[Reservation]:
        """Grant the reservations that fit both limits now, in their order, and yield each.

        One for which a day has no room is yielded too, and is `gone` then.
        """
        self._looked = now
        for member in [each for each in self._members if not each.waiting]:
            del self._members[member]
        for each in (*self._members, self.allowance):
            each.line.move_on(now)
        self._turns.look(now)
        yield from self._turned_away(self._members, now)
        ready = {member: None for member in self._members if _fits(member, now)}
        while ready:
            turn = self._turns.next(ready, now)
            member, waiting = turn.member, turn.waiting
            if not member.turn_away(waiting, self.allowance.days_full_until(waiting.costs), now):
                outer = self._outer_for(turn, now)
                if outer is None:
                    self._turns.awaited(now)
                    return
                self._turns.grant(turn)
                member.grant(waiting, now)
                self._outer_of[waiting] = outer
            yield waiting
            yield from self._turned_away((member,), now)
            if not _fits(member, now):
                del ready[member]
        self._stop_waiting(now)  # what waited here does not fit its model's limit any more

    def pop(self, reservation: Reservation) -> Reservation | None:
        """Return what a reservation holds of this limit, to be settled or refunded; else None."""
        return self._outer_of.pop(reservation, None)

    def abandon(self) -> None:
        """End all reservations and forget who waits: their loop was closed."""
        self.allowance.abandon()
        self._members.clear()
        self._turns = self._turns.anew()  # queues of that loop may never be used again
        self._outer_of.clear()
        self._waiter = None

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.allowance.rebase(seconds)
        self._turns.rebase(seconds)
        self._looked += seconds

    def statistics(self, now: float) -> AllowanceStatistics:
        """Return a frozen snapshot; calls that wait for their model's limit are `waiting` too."""
        return replace(self.allowance.statistics(now), waiting=self.waiting)

    def _outer_for(self, turn: Turn, now: float) -> Reservation | None:
        """Return what a call gets of this limit; None, and let it wait, if it does not fit."""
        waiter, head, allowance = self._waiter, turn.waiting, self.allowance
        # What is owed to its class leaves the burst to nobody, as if it were of the highest.
        standing = HIGHEST if turn.owed else head.standing
        if waiter is not None and waiter[1] is head and waiter[2].standing == standing:
            if waiter[2] not in tuple(allowance.poll(now)):
                return None
            self._waiter = None
            return waiter[2]
        self._stop_waiting(now)
        ranked = allowance.line.ranked and not turn.owed
        outer = allowance.admit(head.costs, now, head.place, standing.rank if ranked else None)
        if outer is None:
            queued = allowance.enqueue(head.costs, head.place, again=True, standing=standing)
            self._waiter = turn.member, head, queued
        return outer

    def _turned_away(self, members: Iterable[Allowance], now: float) -> Iterator[Reservation]:
        """End and yield the heads for which a day has no room, here or in their model's limit."""
        for member in members:
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


def _fits(member: Allowance, now: float) -> bool:
    """Whether the head of a queue fits its model's limit."""
    due = member.due
    return due is not None and due <= now


def account_of(given: Account | Mapping[str, Any] | None, **usual: Any) -> Account | None:
    """Return an account that is given as an object, or as a mapping of its arguments.

    Args:
        given: the account, the mapping, or None for no account.
        usual: the arguments that a mapping has if it does not name them.

    Raises:
        ConfigurationError: it is something else, or a value is out of range.
    """
    if isinstance(given, Mapping):
        given = Account(**{**usual, **{str(name): value for name, value in given.items()}})
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
