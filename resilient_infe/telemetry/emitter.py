"""Hands events to whoever listens; apart from the events, which are only loaded if one is made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

Listener = Callable[[Any], None]
"""Takes each `Event`, quickly and without raising; it runs inside the call."""


class Emitter:
    """Hands events to listeners; a listener that raises is reported once and the call goes on.

    Args:
        listeners: whom to tell, in order.

    State: shared by all calls of a stack; immutable but for the memory of who failed.
    """

    __slots__ = ("_failed", "listeners", "routine")

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        """Remember the listeners and whether any of them wants the routine events."""
        self.listeners = listeners
        self.routine = any(getattr(listener, "routine", True) for listener in listeners)
        self._failed: set[int] = set()

    def __call__(self, event: Any) -> None:
        """Tell every listener of `event`."""
        for listener in self.listeners:
            try:
                if event.routine and not getattr(listener, "routine", True):
                    continue
                listener(event)
            except Exception as error:
                self._report(listener, error)

    def _report(self, listener: Listener, error: Exception) -> None:
        if id(listener) not in self._failed:
            self._failed.add(id(listener))
            logging.getLogger("resilient_infe").error(
                "an event listener failed (told once): %r", listener, exc_info=error
            )
