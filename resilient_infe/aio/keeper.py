"""Which event loop a policy belongs to, and how the waiters that it grants are woken.

A policy serves one event loop at a time. An idle policy moves to the next loop that uses it, and
its stored instants are shifted to the new clock. A policy that is in use, or whose loop still runs,
does not move: the caller gets an error that says why.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol, runtime_checkable

from ..core.queue import Waiter
from ..core.runtime import Runtime
from ..errors import WrongLoopError
from .bridge import is_bridge


class Kept(Protocol):
    """A policy that belongs to one loop at a time."""

    @property
    def busy(self) -> bool:
        """Whether it holds something that only its own loop can give back."""
        ...

    def abandon(self) -> None:
        """Forget what is held and waited for, because its loop was closed.

        Nobody there can give it back. What is given back all the same, when a task that was left in
        the loop is collected, changes nothing.
        """
        ...

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to every stored instant, because the clock has changed."""
        ...


@runtime_checkable
class Queueing(Kept, Protocol):
    """A kept policy that also grants its waiters when a time has come."""

    @property
    def due(self) -> float | None:
        """The instant at which `poll` will grant the next waiter, or None."""
        ...

    def poll(self, now: float) -> Iterable[Waiter]:
        """Grant every waiter whose time has come, and return them."""
        ...


class Keeper:
    """Binds a policy to the loop that uses it, and wakes the waiters that the policy grants.

    Args:
        policy: the policy; it is held weakly, so it lives only as long as something else holds it.
        runtime: the loop.

    Attributes:
        runtime: the loop that the policy is bound to now.

    State: one per policy, in `KEEPERS`.
    """

    __slots__ = ("_alarm", "_policy", "runtime")

    def __init__(self, policy: Kept, runtime: Runtime) -> None:
        self._policy = weakref.ref(policy, partial(KEEPERS.pop, id(policy)))
        self.bind(policy, runtime)

    def bind(self, policy: Kept, runtime: Runtime) -> None:
        """Bind the policy to a loop, in place of the one before."""
        self.runtime = runtime
        ring = partial(self._ring, runtime)
        self._alarm = runtime.alarm(ring) if isinstance(policy, Queueing) else None

    def pump(self, now: float | None = None) -> None:
        """Wake every waiter whose time has come, and set the alarm for the next one.

        Args:
            now: the instant that an alarm was set to, or None. It is used if the clock reads less,
                so that rounding cannot make the alarm ring too early.
        """
        policy: Any = self._policy()
        if self._alarm is None or policy is None:  # an instance check would cost more than the rest
            return
        instant = self.runtime.now()
        for waiter in policy.poll(instant if now is None else max(now, instant)):
            wake(waiter)
        self._alarm.set(policy.due)

    def pump_soon(self) -> None:
        """Pump in the next turn of the loop, once for all that ask for it in this one."""
        if self._alarm is not None:
            try:  # noqa: SIM105  # `suppress` would cost more than all the rest
                self._alarm.set(SOON)
            except RuntimeError:
                pass  # a loop that was closed wakes nobody

    def _ring(self, runtime: Runtime, now: float) -> None:
        if runtime is self.runtime:  # else it is an alarm of the loop before, which runs again
            self.pump(now)


SOON = -math.inf
"""An instant that has come."""


KEEPERS: dict[int, Keeper] = {}
"""The keeper of each policy that a loop has used, by the policy's `id`, until the policy is freed.

A `WeakKeyDictionary` is written in Python and takes five times as long.
"""


def keep(policy: Kept, runtime: Runtime) -> Keeper:
    """Return the keeper of a policy on this loop; an idle policy is moved here from another loop.

    Raises:
        WrongLoopError: the policy is in use on another loop.
    """
    keeper = keeper_of(policy)
    if keeper is not None:
        if keeper.runtime is runtime:
            return keeper
        if keeper.runtime.is_closed():
            policy.abandon()
        else:
            _check_movable(policy, keeper.runtime, runtime)
        policy.rebase(_offset(keeper.runtime, runtime))
        keeper.bind(policy, runtime)
    else:
        keeper = KEEPERS[id(policy)] = Keeper(policy, runtime)
    return keeper


def keeper_of(policy: Kept) -> Keeper | None:
    """Return the keeper of a policy, or None if no loop has used the policy yet."""
    return KEEPERS.get(id(policy))


def pump(policy: Kept) -> None:
    """Wake every waiter of a policy whose time has come, and set the alarm for the next one."""
    keeper = keeper_of(policy)
    if keeper is not None:
        keeper.pump()


def pump_soon(policy: Kept) -> None:
    """Pump a policy in the next turn of its loop: thousands of waiters may leave in this one."""
    keeper = keeper_of(policy)
    if keeper is not None:
        keeper.pump_soon()


def wake(waiter: Waiter | None) -> None:
    """Resume a waiter that was granted; a waiter that never parked needs no wake-up."""
    if waiter is not None and waiter.wake is not None:
        waiter.wake()


def _check_movable(policy: Kept, owner: Runtime, to: Runtime) -> None:
    name = type(policy).__name__
    if policy.busy:
        raise WrongLoopError(
            f"this {name} is in use on another event loop, which was not closed: share it only "
            f"within one loop, make one per loop (for several processes, give each a share=), or "
            f"let the loops share its stack with stack.across_loops() before the first call"
        )
    # A stack that goes across loops has all of its calls on the bridge from then on.
    if not owner.is_over() and not is_bridge(to.loop):
        raise WrongLoopError(
            f"this {name} belongs to an event loop that still runs, perhaps in another thread: "
            f"make one per loop, or share it with stack.across_loops()"
        )


def _offset(old: Runtime, new: Runtime) -> float:
    """Return how far the new clock is ahead of the old one.

    The old clock is read first: the time between the two readings can make instants later, not
    earlier.
    """
    before = old.now()
    return new.now() - before
