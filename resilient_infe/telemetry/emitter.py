"""Hands events to whoever listens."""

from __future__ import annotations

import logging
from typing import Any

from ..events import Listener


class Emitter:
    """Hands events to listeners; a listener that raises is reported once and the call goes on.

    Args:
        listeners: whom to tell, in order; one whose ``routine`` is False only of what is rare.
        rare: whom to tell only of what is rare, after the others.

    Attributes:
        listeners: all of them.
        routine: whether any of them wants the routine events, too.

    State: shared by all calls of a stack; immutable but for the memory of who failed.
    """

    __slots__ = ("_failed", "_of_routine", "listeners", "routine")

    def __init__(self, listeners: tuple[Listener, ...], rare: tuple[Listener, ...] = ()) -> None:
        """Find out once who wants the routine events."""
        self.listeners = (*listeners, *rare)
        self._of_routine = tuple(each for each in listeners if getattr(each, "routine", True))
        self.routine = bool(self._of_routine)
        self._failed: set[int] = set()

    def __call__(self, event: Any) -> None:
        """Tell every listener of `event`."""
        for listener in self._of_routine if event.routine else self.listeners:
            try:
                listener(event)
            except Exception as error:
                self._report(listener, error)

    def _report(self, listener: Listener, error: Exception) -> None:
        if id(listener) not in self._failed:
            self._failed.add(id(listener))
            logging.getLogger("resilient_infe").error(
                "an event listener failed (told once): %r", listener, exc_info=error
            )
