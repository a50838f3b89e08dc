"""Gives each call an id, and reports the call's start and end.

Why outermost? So that the id covers everything, including queues and refusals. If nothing listens,
the cost is near zero: no event is built, and an id is a prefix and a counter (a UUID costs eight
times as much).
"""

from __future__ import annotations

import itertools
import os
from functools import partial
from logging import DEBUG
from typing import Any

from ..aio import is_cancellation
from ..core.call import Call, Emit
from ..core.guard import Guard
from ..core.ids import clean_id, model_in
from ..core.verdict import OK, SUCCESS, Kind, Usage
from ..errors import Refused
from ..events import CallFinished, CallStarted, Event, Listener
from .emitter import Emitter
from .log import LogListener

_counter = itertools.count(1)
_process = os.urandom(4).hex() + "-"


def _reseed() -> None:
    global _process  # noqa: PLW0603  # a forked child must not repeat the ids of its parent
    _process = os.urandom(4).hex() + "-"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)


def make_id() -> str:
    """Return an id that is unique over all processes and safe to log, like ``8f3a02c1-31``."""
    return f"{_process}{next(_counter)}"


class RequestIdLogger(Guard[Emit]):
    """Makes the request id, or checks a given one, and reports the start and the end of the call.

    Args:
        logger: a bound structlog logger. None means structlog's own logger if structlog is
            configured, else the standard library's ``resilient_infe``.
        log: False to set ids and pass events to the stack's listeners without logging anything.

    A given id that is not ``[A-Za-z0-9._:-]{1,128}`` is replaced, because ids go into logs.

    State: what belongs to a call is on the `Call`.
    """

    def __init__(self, logger: Any = None, *, log: bool = True) -> None:
        self._log = LogListener(logger) if log else None
        self._base: Emit | None = None
        if self._log is not None:
            self._join(None, self._log)

    def enter(self, call: Call[Any]) -> Emit | None:
        """Set the id, report the start if a listener wants it, and return the emitter."""
        if call.request_id is None or clean_id(call.request_id) is None:
            call.request_id = f"{_process}{next(_counter)}"
        emit, log = call.emit, self._log
        if log is not None:
            if emit is not self._base:
                self._join(emit, log)
            emit = call.emit = self._loud if log.enabled(DEBUG) else self._quiet
        if emit is not None and emit.routine:
            emit(CallStarted(call.request_id, call.partition, call.tags))
        return emit

    def leave(self, call: Call[Any], held: Emit, _: Any, error: BaseException | None) -> None:
        """Report the end: now, or for a stream when it is closed."""
        verdict = call.verdict
        failed = error is not None or (verdict is not None and verdict.kind is not SUCCESS)
        if call.hold is not None and error is None:
            call.hold.on_close(partial(_finish, call, held, None))
        elif failed or held.routine:
            _finish(call, held, error)

    def report(self, event: Event, emit: Emit | None) -> None:
        """Report an event that belongs to no call.

        Args:
            event: the event.
            emit: passes events to the stack's listeners; None if there are none.
        """
        if self._log is not None:
            if emit is not self._base:
                self._join(emit, self._log)
            emit = self._quiet
        if emit is not None:
            emit(event)

    def describe(self) -> str:
        """Return as text where it logs to."""
        return "an id per call" + ("; logs through structlog" if self._log else "; does not log")

    def _join(self, base: Emit | None, log: LogListener) -> None:
        """Make the emitters for one stack: they pass events to its listeners and to the log."""
        self._base = base
        self._quiet, self._loud = _emitters(base, log)


def _finish(
    call: Call[Any], emit: Emit, error: BaseException | None, usage: Usage | None = None
) -> None:
    verdict, kind = call.verdict or OK, outcome_of(call, error)
    if kind is SUCCESS and not emit.routine:
        return
    reason = None
    if kind is not SUCCESS:
        reason = str(error) if isinstance(error, Refused) else call.state.gave_up or verdict.advice
    elapsed, sent_for = call.runtime.now() - call.started, call.state.sent_for
    model = call.state.model or model_in(call.payload)
    usage, refused = usage or verdict.usage, call.state.refused
    if refused is not None:  # what a check refused was paid for, too
        usage = refused.and_last(verdict, usage)
    emit(
        CallFinished(  # in the order of its fields: keywords would double the cost of an event
            call.request_id,
            call.partition,
            kind,
            verdict.status,
            verdict.code,
            verdict.error or (None if error is None else type(error).__name__),
            reason,
            call.sends,
            call.state.waits or {},
            max(0.0, elapsed - sent_for),
            sent_for,
            usage,
            call.server_request_ids,
            call.tags,
            call.priority,
            call.tenant,
            None if model == call.partition else model,
        )
    )


def _emitters(base: Emit | None, log: LogListener) -> tuple[Emitter, Emitter]:
    """Return two emitters: one for use while DEBUG is off, and one for use while DEBUG is on."""
    others: tuple[Listener, ...] = () if base is None else base.listeners
    return Emitter(others, rare=(log,)), Emitter((*others, log))


def outcome_of(call: Call[Any], error: BaseException | None) -> Kind:
    """Return the kind that a call ended as.

    A cancellation between two attempts has no verdict of its own, so it is checked first.
    """
    if error is not None and is_cancellation(error):
        return Kind.CANCELLED
    if call.verdict is not None:
        return call.verdict.kind
    return SUCCESS if error is None else Kind.UNKNOWN
