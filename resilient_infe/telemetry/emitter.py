"""Passes each event to the listeners that want it."""

from __future__ import annotations

import logging
from typing import Any

from ..events import Listener


class Emitter:
    """Passes events to listeners. If one raises, that is logged once, and the call goes on.

    Args:
        listeners: get the events, in this order. A listener whose attribute ``routine`` is False
            gets only those that are not routine.
        rare: listeners that get only events that are not routine, after the others.

    Attributes:
        listeners: all of them, in order.
        routine: whether at least one of them wants the routine events.

    State: shared by all calls of a stack; immutable except for the set of listeners that failed.
    """

    __slots__ = ("_failed", "_want_routine", "listeners", "routine")

    def __init__(self, listeners: tuple[Listener, ...], rare: tuple[Listener, ...] = ()) -> None:
        self.listeners = (*listeners, *rare)
        self._want_routine = tuple(each for each in listeners if getattr(each, "routine", True))
        self.routine = bool(self._want_routine)
        self._failed: set[int] = set()

    def __call__(self, event: Any) -> None:
        """Pass `event` to every listener that wants it."""
        for listener in self._want_routine if event.routine else self.listeners:
            try:
                listener(event)
            except Exception as error:
                self._report(listener, error)

    def _report(self, listener: Listener, error: Exception) -> None:
        if id(listener) not in self._failed:
            self._failed.add(id(listener))
            logging.getLogger("resilient_infe").error(
                "an event listener failed (reported once): %r", listener, exc_info=error
            )
