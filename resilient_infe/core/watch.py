"""What may stand between the layers of a call and its attempts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

Send = Callable[[Any], Coroutine[Any, Any, Any]]
"""A handler: it takes a call, and sends an attempt of it."""


class Disarmable(Protocol):
    """The timer of an attempt, as an adapter sees it."""

    @property
    def when(self) -> float:
        """The loop time at which it fires."""
        ...

    def disarm(self) -> None:
        """Let it never fire."""
        ...


class Passage(Protocol):
    """Takes a call from its layers to where the caller is."""

    def attempt(self, run: Send, /) -> Any:
        """Return the coroutine that has an attempt made there."""
        ...


class Watch(Protocol):
    """Sees each attempt and each wait of one call."""

    def attempt(self, call: Any, send: Send, /) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that sends an attempt of the call."""
        ...

    def waited(self, reason: str, seconds: float) -> None:
        """Note that a wait is over."""
        ...
