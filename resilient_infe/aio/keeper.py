"""Which loop a policy belongs to, and who wakes those that it grants.

A policy serves one event loop at a time. An idle one moves to the next, its instants rebased to the
new clock; one that is in use, or whose loop still runs, is refused with an error that says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from ..core.queue import Waiter
from ..core.runtime import Runtime
from ..errors import WrongLoopError


class Kept(Protocol):
    """A policy that belongs to one loop at a time."""

    keeper: Any
    """Its `Keeper`, or None as long as no loop has used it; not the policy's own business."""

    home: Any
    """The keeper's `Runtime`, so that whoever comes by can see at a glance that it is here."""

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


K = TypeVar("K", bound=Kept)


class Keeper(Generic[K]):
    """Binds a policy to the loop that uses it, and wakes those it grants.

    Args:
        policy: what is kept.
        runtime: the loop.

    State: one per policy and loop, on the policy itself.
    """

    __slots__ = ("_alarm", "_queueing", "policy", "runtime")

    def __init__(self, policy: K, runtime: Runtime) -> None:
        """Bind both; the alarm is only made for a policy that grants by time."""
        self.policy = policy
        self.runtime = runtime
        self._queueing: Queueing | None = policy if isinstance(policy, Queueing) else None
        self._alarm = None if self._queueing is None else runtime.alarm(self.pump)

    def pump(self, now: float | None = None) -> None:
        """Wake all whose turn has come and set the alarm for the next.

        Args:
            now: the instant that an alarm was set to, so that rounding cannot make it too early.
        """
        policy = self._queueing
        if self._alarm is None or policy is None:
            return
        instant = self.runtime.now()
        for waiter in policy.poll(instant if now is None else max(now, instant)):
            wake(waiter)
        self._alarm.set(policy.due)


def keep(policy: K, runtime: Runtime) -> Keeper[K]:
    """Return the keeper of a policy on this loop, moving an idle policy over from another.

    Raises:
        WrongLoopError: the policy is in use on another loop.
    """
    keeper = policy.keeper
    if isinstance(keeper, Keeper):
        if keeper.runtime is runtime:
            return keeper
        _check_movable(policy, keeper.runtime)
        policy.rebase(_offset(keeper.runtime, runtime))
    fresh = Keeper(policy, runtime)
    policy.keeper, policy.home = fresh, runtime
    return fresh


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
