"""One policy for all calls, or one policy per partition: the code that three layers share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from ..core import bounds
from ..core.call import Call
from ..core.keyed import Keepable, Keyed
from ..core.runtime import Runtime
from ..errors import TooManyPartitions, WrongLoopError
from .keeper import KEEPERS, Keeper, Kept, keep


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

    __slots__ = ("_keeper", "_kept", "_keyed", "_settled", "one")

    _keeper: Keeper

    def __init__(self, policy: K | Keyed[K], cls: type[K], layer: str, instead: str) -> None:
        sample = policy.sample() if isinstance(policy, Keyed) else policy
        bounds.instance(sample, cls, layer, instead)
        self._keyed = policy if isinstance(policy, Keyed) else None
        self.one: K | None = None if isinstance(policy, Keyed) else policy
        self._settled: Runtime | None = None
        self._kept: K | None = None  # the policy of the last call; `_keeper` binds it to its loop

    def of(self, call: Call[Any]) -> K:
        """Return the call's policy, bound to the call's loop.

        Raises:
            TooManyPartitions: more partitions are in use than `Keyed` may hold.
            WrongLoopError: the policy is in use on another event loop.
        """
        keyed = self._keyed
        if keyed is None:
            policy = self.one
        elif call.partition is keyed.latest:
            policy = keyed.current
        else:
            policy = keyed.known(call.partition) or self._new(call, keyed)
        assert policy is not None
        if policy is not self._kept or self._keeper.runtime is not call.runtime:
            self._keeper = keep(policy, call.runtime)
            self._kept = policy
        return policy

    def _new(self, call: Call[Any], keyed: Keyed[K]) -> K:
        if keyed.is_full and self._settled is not call.runtime:
            _settle(keyed, call.runtime)
            self._settled = call.runtime
        with contextlib.suppress(TooManyPartitions):
            return keyed.of(call.partition, call.runtime.now())
        _settle(keyed, call.runtime)  # a loop may have ended since
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

    def remembered(self) -> Iterator[tuple[str | None, K]]:
        """Yield what `items` does, and the policies at rest."""
        yield from self.items() if self._keyed is None else self._keyed.remembered()

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


def _settle(keyed: Keyed[K], runtime: Runtime) -> None:
    """Move the policies of loops that are over to this one.

    Their instants are of another clock until then, so they cannot be asked whether they may be
    dropped. Moving them also frees what was held on a loop that was closed.
    """
    for _, policy in keyed.remembered():
        keeper = KEEPERS.get(id(policy))
        if keeper is not None and keeper.runtime is not runtime and keeper.runtime.is_over():
            with contextlib.suppress(WrongLoopError):  # held on a loop that may run again
                keep(policy, runtime)
