"""One policy per partition: a model that is rate-limited must not stop the others.

The number of policies is bounded. When it is reached, the least recently used policy that nothing
holds is dropped to make room. There are three cases:

1. A policy in use (a slot or a reservation is held, a circuit is open) is never dropped. A new key
   is refused only if all policies are in use.
2. An idle policy does not differ from a new one, so dropping it loses nothing.
3. Any other policy remembers something: what was spent in the last minute, or a closed gate. It is
   put to rest, and comes back if its key does. It is forgotten once it is idle.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, overload

from ..errors import ConfigurationError, TooManyPartitions
from . import bounds
from .revisions import Revisions
from .shared import Shared

MOST_RESTING = 16
"""Policies at rest, as a multiple of `max_keys`: a bound on memory that hardly any program meets,
since most rest for a minute at most. Beyond it the first one is forgotten."""


class Keepable(Protocol):
    """A policy that can report whether it may be dropped."""

    def in_use(self, now: float, /) -> bool:
        """Whether it holds something, or protects a server, so that it must not be dropped."""
        ...

    def idle(self, now: float, /) -> bool:
        """Whether it does not differ from a new one, so that dropping it loses nothing."""
        ...


K = TypeVar("K", bound=Keepable)

_NO_KEY = object()


class Keyed(Shared, Generic[K]):
    """Makes a policy for each key when the key is first used, and bounds their number.

    Args:
        factory: makes one policy, for example ``lambda: Slots(64)`` or ``Circuit``. If it requires
            one argument, it is given the key, as in ``lambda model: Slots(SLOTS.get(model, 8))``;
            the key of calls without a partition is None.
        max_keys: the number of policies to keep, at least 1. The default of 1024 is far above the
            models and hosts that one program uses, and bounds memory where a key is a user.
        names: keys whose policies differ from those of other keys, to be named in descriptions; by
            default there are none.

    Raises:
        ConfigurationError: `max_keys` is below 1, or `factory` is async or takes other arguments.

    Attributes:
        names: the argument of this name.
        policies: the policies, by key, the least recently used first; to be read only.
        takes_key: whether the factory is given the key.
        latest: the key that was used last; no text before the first.
        current: the policy of `latest`.
        revisions: the limits that were changed while in use, which policies made later have too;
            see `Revisions`.

    State: shared by every layer that is given the object.
    """

    __slots__ = (
        "_factory",
        "_resting",
        "current",
        "latest",
        "max_keys",
        "names",
        "policies",
        "revisions",
        "takes_key",
    )

    @overload
    def __init__(
        self, factory: Callable[[], K], *, max_keys: int = ..., names: Iterable[str] = ...
    ) -> None: ...

    @overload
    def __init__(
        self, factory: Callable[[str | None], K], *, max_keys: int = ..., names: Iterable[str] = ...
    ) -> None: ...

    def __init__(
        self, factory: Callable[..., K], *, max_keys: int = 1024, names: Iterable[str] = ()
    ) -> None:
        bounds.whole(max_keys, 1, "max_keys")
        if not callable(factory):
            raise ConfigurationError(
                f"Keyed needs a function that makes a policy, like Circuit; got {factory!r}"
            )
        self.takes_key = _requires_argument(factory)
        what = "Keyed needs a function that takes nothing, or the key, and makes a policy"
        bounds.function(factory, int(self.takes_key), what)
        self._factory = factory
        self.names = tuple(names)
        self.policies: OrderedDict[str | None, K] = OrderedDict()
        self._resting: OrderedDict[str | None, K] = OrderedDict()
        self.latest: object = _NO_KEY
        self.current: K | None = None
        self.max_keys = max_keys
        self.revisions: Revisions | None = None

    def of(self, key: str | None, now: float) -> K:
        """Return the policy of `key`; make it if it does not exist.

        Raises:
            TooManyPartitions: `max_keys` policies exist and all of them are in use.
        """
        policy = self.known(key)
        if policy is None:
            policy = self._make(key, now)
            self.latest, self.current = key, policy
        return policy

    def known(self, key: str | None) -> K | None:
        """Return the policy of `key`, or None if it does not exist."""
        policy = self.policies.get(key)
        if policy is not None:
            self.policies.move_to_end(key)
            self.latest, self.current = key, policy
        return policy

    @property
    def by_names(self) -> bool:
        """Whether all keys that are not in `names` are known to have equal policies."""
        return getattr(self._factory, "by_names", not self.takes_key)

    @property
    def is_full(self) -> bool:
        """Whether another key needs room."""
        return len(self.policies) >= self.max_keys

    def remembered(self) -> Iterator[tuple[str | None, K]]:
        """Iterate over a copy of the keys and policies, those at rest included."""
        return iter((*self._resting.items(), *self.policies.items()))

    def items(self) -> Iterator[tuple[str | None, K]]:
        """Iterate over a copy of the keys and their policies."""
        return iter(tuple(self.policies.items()))

    def __len__(self) -> int:
        """Return the number of policies, without those at rest."""
        return len(self.policies)

    def sample(self, key: str | None = None) -> K:
        """Return a new policy that is not kept, for descriptions of what the factory makes."""
        policy = self.original(key)
        if self.revisions is not None:
            self.revisions.apply(key, policy)
        return policy

    def original(self, key: str | None = None) -> K:
        """Return a new policy as the factory makes it, without the `revisions`."""
        return self._factory(key) if self.takes_key else self._factory()

    def _make(self, key: str | None, now: float) -> K:
        policy = self._resting.get(key)
        if policy is None:
            policy = self.sample(key)
        if self.is_full:
            self._drop_one(now)
        self._resting.pop(key, None)
        self.policies[key] = policy
        return policy

    def _drop_one(self, now: float) -> None:
        """Drop the least recently used policy that is not in use.

        One in use is as good as used just now, so it moves to the end: it is not looked at again
        before all others, and a drop takes a constant number of steps on average.
        """
        for _ in range(len(self.policies)):
            key, policy = next(iter(self.policies.items()))
            if policy.in_use(now):
                self.policies.move_to_end(key)
                continue
            del self.policies[key]
            self._forget_idle(now)
            if not policy.idle(now):
                self._rest(key, policy)
            return
        raise TooManyPartitions(
            f"all {self.max_keys} partitions are in use: raise max_keys, or use a coarser "
            f"partition (a model or a host, not a request)"
        )

    def _rest(self, key: str | None, policy: K) -> None:
        if len(self._resting) >= MOST_RESTING * self.max_keys:
            self._resting.popitem(last=False)
        self._resting[key] = policy

    def _forget_idle(self, now: float) -> None:
        """Look at two policies at rest: more leave than come."""
        for _ in range(min(2, len(self._resting))):
            key, policy = self._resting.popitem(last=False)
            if not policy.idle(now):
                self._resting[key] = policy

    def __repr__(self) -> str:
        return f"<Keyed {len(self.policies)}/{self.max_keys} partitions>"


def _requires_argument(factory: Callable[..., Any]) -> bool:
    """Whether a callable cannot be called without an argument."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some callables written in C have no signature
        return False
    try:
        signature.bind()
    except TypeError:
        return True
    return False
