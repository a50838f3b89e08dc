"""One policy per partition: a model that is rate-limited must not stop the others.

A policy is dropped only when it is *idle*, that is when it holds nothing that a new one would not
have; so which idle one is dropped makes no difference, and no order of use needs to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from ..errors import ConfigurationError, TooManyPartitions
from . import bounds


class Idling(Protocol):
    """A policy that can tell whether it is as good as new."""

    def idle(self, now: float) -> bool:
        """Whether nothing is in it that a new one would not have."""
        ...


K = TypeVar("K", bound=Idling)


class Keyed(Generic[K]):
    """A policy per key, made when first asked for, bounded in number.

    Args:
        factory: makes one policy, for example ``lambda: Slots(64)`` or ``Circuit``.
        max_keys: how many to keep, at least 1; 1024 bounds a key taken from user input by
            mistake, and is far above the models and hosts that one program talks to.

    Raises:
        ConfigurationError: `max_keys` is below 1.

    Attributes:
        policies: those there are already, by key; to be read only.

    State: shared by every layer that is given the object.
    """

    __slots__ = ("_factory", "max_keys", "policies")

    def __init__(self, factory: Callable[[], K], *, max_keys: int = 1024) -> None:
        """Start with no policy."""
        bounds.whole(max_keys, 1, "max_keys")
        if not callable(factory):
            raise ConfigurationError(
                f"Keyed takes what makes a policy, like Circuit; got {factory!r}"
            )
        self._factory = factory
        self.policies: dict[str | None, K] = {}
        self.max_keys = max_keys

    def of(self, key: str | None, now: float) -> K:
        """Return the policy of `key`, making it if need be.

        Raises:
            TooManyPartitions: `max_keys` policies are in use.
        """
        policy = self.policies.get(key)
        return policy if policy is not None else self._make(key, now)

    def items(self) -> Iterator[tuple[str | None, K]]:
        """Iterate over a copy of the keys and their policies."""
        return iter(tuple(self.policies.items()))

    def __len__(self) -> int:
        """Return how many policies there are."""
        return len(self.policies)

    def sample(self) -> K:
        """Return a new policy that is not kept, to describe what the factory makes."""
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
        """Show how many there are."""
        return f"<Keyed {len(self.policies)}/{self.max_keys} partitions>"
