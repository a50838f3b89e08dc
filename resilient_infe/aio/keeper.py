"""Which loop a policy belongs to, and who wakes those that it grants.

A policy serves one event loop at a time. An idle one moves to the next, its instants rebased to the
new clock; one that is in use, or whose loop still runs, is refused with an error that says why.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Protocol, runtime_checkable

from ..core.queue import Waiter
from ..core.runtime import Runtime
from ..errors import WrongLoopError


class Kept(Protocol):
    """A policy that belongs to one loop at a time."""

    @property
    def busy(self) -> bool:
        """Whether something is held that only its own loop can give back."""
        ...

    def rebase(self, seconds: float) -> None:
        """Move every stored instant, to follow another clock."""
        ...


@runtime_checkable
class Queueing(Kept, Protocol):
    """A kept policy whose waiters are granted by time."""

    @property
    def due(self) -> float | None:
        """The instant at which `poll` will grant the next waiter."""
        ...

    def poll(self, now: float) -> Iterable[Waiter]:
        """Grant all whose turn has come."""
        ...


class Keeper:
    """Binds a policy to the loop that uses it, and wakes those it grants.

    Args:
        policy: what is kept, as long as somebody else holds it.
        runtime: the loop.

    State: one per policy and loop, in `KEEPERS`.
    """

    __slots__ = ("_alarm", "_policy", "runtime")

    def __init__(self, policy: Kept, runtime: Runtime) -> None:
        """Bind both; the alarm is only made for a policy that grants by time."""
        self._policy = weakref.ref(policy, partial(KEEPERS.pop, id(policy)))
        self.runtime = runtime
        self._alarm = runtime.alarm(self.pump) if isinstance(policy, Queueing) else None

    def pump(self, now: float | None = None) -> None:
        """Wake all whose turn has come and set the alarm for the next.

        Args:
            now: the instant that an alarm was set to, so that rounding cannot make it too early.
        """
        policy = self._policy()
        if self._alarm is None or not isinstance(policy, Queueing):
            return
        instant = self.runtime.now()
        for waiter in policy.poll(instant if now is None else max(now, instant)):
            wake(waiter)
        self._alarm.set(policy.due)


KEEPERS: dict[int, Keeper] = {}
"""The keeper of each policy that a loop has used, by the policy's identity, until it is collected.

To be read by who comes by on every call; a `WeakKeyDictionary` is Python, and takes five times as
long to ask.
"""


def keep(policy: Kept, runtime: Runtime) -> Keeper:
    """Return the keeper of a policy on this loop, moving an idle policy over from another.

    Raises:
        WrongLoopError: the policy is in use on another loop.
    """
    keeper = keeper_of(policy)
    if keeper is not None:
        if keeper.runtime is runtime:
            return keeper
        _check_movable(policy, keeper.runtime)
        policy.rebase(_offset(keeper.runtime, runtime))
    fresh = KEEPERS[id(policy)] = Keeper(policy, runtime)
    return fresh


def keeper_of(policy: Kept) -> Keeper | None:
    """Return the keeper of a policy, or None as long as no loop has used it."""
    return KEEPERS.get(id(policy))


def pump(policy: Kept) -> None:
    """Wake all whose turn has come at a policy, and set the alarm for the next."""
    keeper = keeper_of(policy)
    if keeper is not None:
        keeper.pump()


def wake(waiter: Waiter | None) -> None:
    """Resume a waiter that was granted; one that never parked has nothing to resume."""
    if waiter is not None and waiter.wake is not None:
        waiter.wake()


def _check_movable(policy: Kept, owner: Runtime) -> None:
    name = type(policy).__name__
    if policy.busy:
        raise WrongLoopError(
            f"this {name} is in use on another event loop (an open stream of a loop that has ended "
            f"counts): share it only within one loop, or make one per loop (for several processes "
            f"or threads, give each a share=)"
        )
    if not owner.is_over():
        raise WrongLoopError(
            f"this {name} belongs to an event loop that still runs, perhaps in another thread: "
            f"make one per loop"
        )


def _offset(old: Runtime, new: Runtime) -> float:
    """Return how far the new clock is ahead; read in this order, instants only move later."""
    before = old.now()
    return new.now() - before
