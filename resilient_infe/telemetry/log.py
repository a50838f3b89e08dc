"""The only file that touches structlog: events become log lines.

A library must not print on stdout. Unconfigured, structlog would write every line to stdout and so
corrupt a program that writes JSONL there; then its processors are put on a standard library logger
instead, whose level and handlers are the application's. ``structlog.configure`` is never called.
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
"""Fields of a log record, which the standard library lets nobody overwrite."""

LEVELS = {
    "retry.scheduled": logging.INFO,
    "retry.stopped": logging.INFO,
    "rate.gate_closed": logging.WARNING,
    "rate.limit_changed": logging.INFO,
    "slots.narrowed": logging.INFO,
    "circuit.opened": logging.WARNING,
    "circuit.half_opened": logging.INFO,
    "circuit.closed": logging.WARNING,
}
"""The level of each event by its name; those that are not here are DEBUG, and a failed call is
WARNING."""


class LogListener:
    """Writes events to structlog.

    Args:
        logger: a bound structlog logger, or None for structlog's own if it is configured, else one
            on ``logging.getLogger("resilient_infe")``.

    Attributes:
        enabled: tells whether a level is on; a logger that cannot tell takes everything.

    State: shared; the logger is bound at the first use, since a filtered call through a bound
    logger costs a fiftieth of one through structlog's lazy proxy.
    """

    def __init__(self, logger: Any = None) -> None:
        """Remember a given logger; without one load structlog, which takes its time, here."""
        if logger is None:
            import structlog  # noqa: F401  # whoever does not log need not load it
        self._logger: Any = logger
        self.enabled: Callable[[int], bool] = self._first_asked

    def __call__(self, event: Event) -> None:
        """Write one line."""
        level = level_of(event)
        if self.enabled(level):
            self._logger.log(level, event.name, **event.as_dict())

    def _first_asked(self, level: int) -> bool:
        """Find the logger and what tells whether a level is on, and ask that."""
        if self._logger is None:
            import structlog

            self._logger = _default_logger()
            if not structlog.is_configured():
                # What structlog's own answer ends at, at a third of the cost.
                self.enabled = logging.getLogger(LOGGER_NAME).isEnabledFor
                return self.enabled(level)
        is_bound = hasattr(type(self._logger), "is_enabled_for")
        self.enabled = self._logger.is_enabled_for if is_bound else self._ask_anew
        return self.enabled(level)

    def _ask_anew(self, level: int) -> bool:
        """Ask a logger that finds its configuration anew, as structlog's lazy one does."""
        ask = getattr(self._logger, "is_enabled_for", None)
        return ask is None or bool(ask(level))


def level_of(event: Event) -> int:
    """Return the level that an event is logged at."""
    if event.name == "call.finished":
        # Whoever cancels a call knows that he did.
        quiet = getattr(event, "kind", None) in (Kind.OK, Kind.CANCELLED)
        return logging.DEBUG if quiet else logging.WARNING
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
    """Put the fields into the message too, escaped: most formatters print nothing else."""
    fields = " ".join(f"{name}={_plain(value)}" for name, value in event.items() if name != "event")
    event["event"] = f"{event['event']} {fields}"
    for name in _RESERVED.intersection(event):  # a context variable of the application's, perhaps
        event[f"{name}_"] = event.pop(name)
    return event


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ascii(str(value)) if isinstance(value, str) else ascii(value)
