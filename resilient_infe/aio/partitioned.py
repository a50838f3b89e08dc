"""One policy for all calls, or one policy per partition: the code that three layers share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ..core import bounds
from ..core.by_model import OTHERS
from ..core.call import Call
from ..core.ids import safe_name
from ..core.keyed import Keepable, Keyed
from ..core.runtime import Runtime
from ..errors import ConfigurationError, TooManyPartitions, WrongLoopError
from .keeper import KEEPERS, Keeper, Kept, keep


class Policy(Kept, Keepable, Protocol):
    """A policy that a layer can hold, for all calls or per partition."""


K = TypeVar("K", bound=Policy)

MOST_NAMED = 8
"""Partitions that a description names; the others are only counted."""


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
        keyed: what makes the policies, or None if one serves all calls.
    """

    __slots__ = ("_check", "_keeper", "_kept", "_settled", "keyed", "one")

    _keeper: Keeper

    def __init__(self, policy: K | Keyed[K], cls: type[K], layer: str, instead: str) -> None:
        self._check = partial(bounds.instance, cls=cls, what=layer, instead=instead)
        self.keyed = policy if isinstance(policy, Keyed) else None
        self.one: K | None = None if isinstance(policy, Keyed) else policy
        sample = self._usual()
        if sample is not None:
            self._check(sample)
        self._settled: Runtime | None = None
        self._kept: K | None = None  # the policy of the last call; `_keeper` binds it to its loop

    def of(self, call: Call[Any]) -> K:
        """Return the call's policy, bound to the call's loop.

        Raises:
            TooManyPartitions: more partitions are in use than `Keyed` may hold.
            WrongLoopError: the policy is in use on another event loop.
        """
        keyed = self.keyed
        if keyed is None:
            policy = self.one
        elif call.partition is keyed.latest:
            policy = keyed.current
        else:
            policy = keyed.known(call.partition) or self._new(call, keyed)
        assert policy is not None
        if policy is not self._kept or self._keeper.runtime is not call.runtime:
            self._check(policy)  # a factory that takes the key was not tried with every key
            self._keeper = keep(policy, call.runtime)
            self._kept = policy
        return policy

    def to_resize(self, partition: str | None) -> K:
        """Return the policy of a partition; make it if the partition has had no call yet.

        Args:
            partition: its name; None for the policy of all calls, or of those without a partition.

        Raises:
            ConfigurationError: `partition` is not a name, or one policy serves all partitions.
            TooManyPartitions: more partitions are in use than `Keyed` may hold.
        """
        name: object = partition  # a user may give anything
        if not isinstance(name, str | None) or name == OTHERS:
            raise ConfigurationError(
                f"partition must be the name of one, such as a model; got {partition!r}"
            )
        if self.one is not None:
            if partition is not None:
                raise ConfigurationError(
                    f"one limit serves all partitions here, so {partition!r} has none of its own: "
                    f"leave partition= out, or declare the limits by model"
                )
            return self.one
        assert self.keyed is not None
        keepers = [KEEPERS.get(id(policy)) for policy in self.keyed.policies.values()]
        now = max((keeper.runtime.now() for keeper in keepers if keeper is not None), default=0.0)
        policy = self.keyed.of(partition, now)
        self._check(policy)
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
        if self.keyed is not None:
            yield from self.keyed.items()
        elif self.one is not None:
            yield None, self.one

    def remembered(self) -> Iterator[tuple[str | None, K]]:
        """Yield what `items` does, and the policies at rest."""
        yield from self.items() if self.keyed is None else self.keyed.remembered()

    def each_known(self) -> Iterator[K]:
        """Yield a policy for each limit that is known: those in use, and those yet to be made."""
        usual = self._usual()
        if usual is not None:
            yield usual
        if self.keyed is not None:
            yield from self.keyed.policies.values()
            for name in self.keyed.names:
                if name not in self.keyed.policies:
                    yield self.keyed.sample(name)

    def describe(self, text: Callable[[K], str] = str) -> str:
        """Return the policies as text: that of most partitions, then those that differ from it.

        Args:
            text: returns one policy as text.
        """
        usual = self._usual()
        if self.keyed is None:
            return "" if usual is None else text(usual)
        common = "by your function" if usual is None else text(usual)
        known, sample = self.keyed.policies, self.keyed.sample
        names = dict.fromkeys((*self.keyed.names, *[name for name in known if name is not None]))
        own = {name: text(known[name] if name in known else sample(name)) for name in names}
        others = [f"{safe_name(name)}: {each}" for name, each in own.items() if each != common]
        if len(others) > MOST_NAMED:
            others[MOST_NAMED:] = [f"{len(others) - MOST_NAMED:,} more partitions"]
        return "; ".join([f"{common}, per partition", *others])

    def _usual(self) -> K | None:
        """Return the policy of all calls, or a new one of a partition that is not named.

        None if a factory that takes the key refuses one that no call has.
        """
        if self.keyed is None:
            return self.one
        try:
            return self.keyed.sample()
        except Exception:
            if self.keyed.takes_key:  # such as a KeyError: the user's function may raise anything
                return None
            raise


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
