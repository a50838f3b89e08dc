"""Limits that were changed while in use, for the policies of partitions that come later."""

from __future__ import annotations

from typing import Any, Protocol


class Revisable(Protocol):
    """A policy whose declared limits can be changed while it is in use."""

    def declared(self, limit: str, /) -> Any:
        """Return a declared limit by its name; None if it is not declared."""
        ...

    def declare(self, limit: str, value: Any, now: float, /) -> Any:
        """Declare another limit."""
        ...


class Revisions:
    """What was declared anew: for single keys, and for the keys that have the usual limit.

    Attributes:
        own: the new limits of single keys, by key and name of the limit.
        usual: by name of the limit, the one that most policies were made with, and the new one.

    State: in the `Keyed` that makes the policies.
    """

    __slots__ = ("own", "usual")

    def __init__(self) -> None:
        self.own: dict[tuple[str | None, str], Any] = {}
        self.usual: dict[str, tuple[Any, Any]] = {}

    def apply(self, key: str | None, policy: Any) -> None:
        """Change the limits of a policy that was just made for `key`.

        One that has them stays as it is: a factory may return a policy that is in use.
        """
        for limit, (before, value) in self.usual.items():
            if (key, limit) not in self.own and policy.declared(limit) == before != value:
                policy.declare(limit, value, 0.0)
        for (name, limit), value in self.own.items():
            if name == key and policy.declared(limit) != value:
                policy.declare(limit, value, 0.0)
