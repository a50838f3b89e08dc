"""Writes events as log lines; this is the only file that uses structlog.

A library must not print to stdout. If structlog is not configured, it writes every line there,
which corrupts the output of a program that writes JSONL to stdout. In that case the lines go to a
standard library logger, whose level and handlers belong to the application. This file never calls
``structlog.configure``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from ..core.verdict import Kind

if TYPE_CHECKING:
    from ..events import Event

LOGGER_NAME = "resilient_infe"

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Fields of a log record that the standard library does not let a message overwrite."""

SHORT_GATE = 1.0
"""Seconds: a gate that is closed for less is INFO, because no one need act on it."""

LEVELS = {
    "retry.scheduled": logging.INFO,
    "retry.stopped": logging.INFO,
    "fallback.tried": logging.INFO,
    "rate.gate_closed": logging.WARNING,
    "rate.limit_changed": logging.INFO,
    "rate.maybe_shared": logging.WARNING,
    "rate.too_large": logging.INFO,
    "limits.configured": logging.INFO,
    "shares.lost": logging.WARNING,
    "shares.restored": logging.INFO,
    "slots.narrowed": logging.INFO,
    "circuit.opened": logging.WARNING,
    "circuit.throttled": logging.WARNING,
    "circuit.half_opened": logging.INFO,
    "circuit.closed": logging.WARNING,
}
"""The level of each event, by its name. Any other event is DEBUG, but a call that failed is
WARNING.
"""


class LogListener:
    """Writes events to structlog.

    Args:
        logger: a bound structlog logger. None means structlog's own logger if structlog is
            configured, else one on ``logging.getLogger("resilient_infe")``.

    Attributes:
        enabled: returns whether a level is on; for a logger that cannot say, every level is on.

    State: shared. The logger is bound at its first use: a filtered call costs a fiftieth through a
    bound logger of what it costs through structlog's lazy proxy.
    """

    def __init__(self, logger: Any = None) -> None:
        if logger is None:
            # Importing structlog is slow: do it here, not in a call, and only if it is needed.
            import structlog  # noqa: F401
        self._logger: Any = logger
        self.enabled: Callable[[int], bool] = self._enabled_at_first_use

    def __call__(self, event: Event) -> None:
        """Write one line for the event, if its level is on."""
        level = level_of(event)
        if self.enabled(level):
            self._logger.log(level, event.name, **event.as_dict())

    def _enabled_at_first_use(self, level: int) -> bool:
        """Find the logger, replace `enabled` by the fastest function for it, and call that."""
        if self._logger is None:
            import structlog

            self._logger = _default_logger()
            if not structlog.is_configured():
                # structlog's own method ends in this one; calling it directly costs a third.
                self.enabled = logging.getLogger(LOGGER_NAME).isEnabledFor
                return self.enabled(level)
        is_bound = hasattr(type(self._logger), "is_enabled_for")
        self.enabled = self._logger.is_enabled_for if is_bound else self._enabled_at_each_use
        return self.enabled(level)

    def _enabled_at_each_use(self, level: int) -> bool:
        """Look the method up each time: structlog's lazy logger may be configured in between."""
        ask = getattr(self._logger, "is_enabled_for", None)
        return ask is None or bool(ask(level))


def level_of(event: Event) -> int:
    """Return the level at which an event is logged."""
    if event.name == "call.finished":
        # A cancelled call is not logged as a failure: the code that cancelled it knows.
        quiet = getattr(event, "kind", None) in (Kind.OK, Kind.CANCELLED)
        return logging.DEBUG if quiet else logging.WARNING
    if event.name == "rate.gate_closed" and getattr(event, "delay", SHORT_GATE) < SHORT_GATE:
        return logging.INFO
    return LEVELS.get(event.name, logging.DEBUG)


def _default_logger() -> Any:
    import structlog

    if structlog.is_configured():
        return structlog.get_logger(LOGGER_NAME).bind()
    return structlog.wrap_logger(
        logging.getLogger(LOGGER_NAME),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            _fields_in_message,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind()


def _fields_in_message(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the fields, escaped, to the message: most formatters print nothing else."""
    fields = " ".join(f"{name}={_plain(value)}" for name, value in event.items() if name != "event")
    event["event"] = f"{event['event']} {fields}"
    for name in _RESERVED.intersection(event):  # the application's context variables can do this
        event[f"{name}_"] = event.pop(name)
    return event


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ascii(str(value)) if isinstance(value, str) else ascii(value)
