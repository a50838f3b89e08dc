"""One policy for all calls, or one policy per partition: the code that three layers share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from ..core import bounds
from ..core.call import Call
from ..core.keyed import Keepable, Keyed
from ..errors import TooManyPartitions
from .keeper import KEEPERS, Kept, keep


class Policy(Kept, Keepable, Protocol):
    """A policy that a layer can hold, for all calls or per partition."""


K = TypeVar("K", bound=Policy)


class Partitioned(Generic[K]):
    """Finds the policy of a call and binds it to the call's loop.

    Args:
        policy: one policy for all calls, or a `Keyed` that makes one per partition.
        cls: the class that a policy must have.
        layer: the name of the layer, for the error message.
        instead: what the user should give instead, for the error message.

    Raises:
        ConfigurationError: `policy` is something else.

    Attributes:
        one: the policy that serves all calls, or None if there is one per partition.
    """

    __slots__ = ("_keyed", "_known", "_latest", "_touch", "one")

    def __init__(self, policy: K | Keyed[K], cls: type[K], layer: str, instead: str) -> None:
        sample = policy.sample() if isinstance(policy, Keyed) else policy
        bounds.instance(sample, cls, layer, instead)
        self._keyed = policy if isinstance(policy, Keyed) else None
        self.one: K | None = None if isinstance(policy, Keyed) else policy
        policies: OrderedDict[str | None, K]
        policies = policy.policies if isinstance(policy, Keyed) else OrderedDict()
        self._known: Callable[[str | None], K | None] = policies.get
        self._latest: str | None = None
        self._touch: Callable[[str | None], None] = policies.move_to_end

    def of(self, call: Call[Any]) -> K:
        """Return the call's policy, bound to the call's loop.

        Raises:
            TooManyPartitions: more partitions are in use than `Keyed` may hold.
            WrongLoopError: the policy is in use on another event loop.
        """
        policy = self.one
        if policy is None:
            partition = call.partition
            policy = self._known(partition)
            if policy is None:
                policy = self._new(call)
            elif partition is not self._latest:  # most calls in a row have the same one
                self._touch(partition)
            self._latest = partition
        keeper = KEEPERS.get(id(policy))
        if keeper is None or keeper.runtime is not call.runtime:
            keep(policy, call.runtime)
        return policy

    def _new(self, call: Call[Any]) -> K:
        keyed = self._keyed
        assert keyed is not None
        try:
            return keyed.of(call.partition, call.runtime.now())
        except TooManyPartitions as error:
            raise call.refuse(error) from None

    def items(self) -> Iterator[tuple[str | None, K]]:
        """Yield each partition with its policy; a policy for all calls has the partition None."""
        if self._keyed is not None:
            yield from self._keyed.items()
        elif self.one is not None:
            yield None, self.one

    def shared(self) -> bool:
        """Whether one policy serves all partitions."""
        return self._keyed is None

    def sample(self) -> K:
        """Return a policy to describe: the one for all calls, or a new one made by the factory."""
        if self._keyed is not None:
            return self._keyed.sample()
        assert self.one is not None
        return self.one

    def describe(self) -> str:
        """Return the text that marks one policy per partition, or an empty text."""
        return "" if self.shared() else ", per partition"
