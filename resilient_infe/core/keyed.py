"""One policy per partition: a model that is rate-limited must not stop the others.

A policy is dropped only while it is *idle*: nothing in it differs from a new one. So it does not
matter which idle policy is dropped, and the order of use need not be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from ..errors import ConfigurationError, TooManyPartitions
from . import bounds


class Idling(Protocol):
    """A policy that can report whether it differs from a new one."""

    def idle(self, now: float) -> bool:
        """Whether the policy is in the state of a new one, so that it may be dropped."""
        ...


K = TypeVar("K", bound=Idling)


class Keyed(Generic[K]):
    """Makes a policy for each key when the key is first used, and bounds their number.

    Args:
        factory: makes one policy, for example ``lambda: Slots(64)`` or ``Circuit``.
        max_keys: the number of policies to keep, at least 1. The default of 1024 is far above the
            models and hosts that one program uses, and bounds memory if a key is by mistake taken
            from user input.

    Raises:
        ConfigurationError: `max_keys` is below 1.

    Attributes:
        policies: the policies made so far, by key. Read it, but do not change it.

    State: shared by every layer that is given the object.
    """

    __slots__ = ("_factory", "max_keys", "policies")

    def __init__(self, factory: Callable[[], K], *, max_keys: int = 1024) -> None:
        bounds.whole(max_keys, 1, "max_keys")
        if not callable(factory):
            raise ConfigurationError(
                f"Keyed needs a function that makes a policy, like Circuit; got {factory!r}"
            )
        self._factory = factory
        self.policies: dict[str | None, K] = {}
        self.max_keys = max_keys

    def of(self, key: str | None, now: float) -> K:
        """Return the policy of `key`; make it if it does not exist.

        Raises:
            TooManyPartitions: `max_keys` policies exist and none of them is idle.
        """
        policy = self.policies.get(key)
        return policy if policy is not None else self._make(key, now)

    def items(self) -> Iterator[tuple[str | None, K]]:
        """Iterate over a copy of the keys and their policies."""
        return iter(tuple(self.policies.items()))

    def __len__(self) -> int:
        """Return the number of policies."""
        return len(self.policies)

    def sample(self) -> K:
        """Return a new policy that is not kept, for descriptions of what the factory makes."""
        return self._factory()

    def _make(self, key: str | None, now: float) -> K:
        if len(self.policies) >= self.max_keys:
            self._drop_idle(now)
        policy = self.policies[key] = self._factory()
        return policy

    def _drop_idle(self, now: float) -> None:
        for key, policy in self.policies.items():
            if policy.idle(now):
                del self.policies[key]
                return
        raise TooManyPartitions(
            f"all {self.max_keys} partitions are in use: raise max_keys, or use a coarser "
            f"partition (a model or a host, not a request)"
        )

    def __repr__(self) -> str:
        return f"<Keyed {len(self.policies)}/{self.max_keys} partitions>"
