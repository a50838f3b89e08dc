"""Makes a span of each call, and one of each attempt after the first.

The call's span is current while the call runs, so that the spans of an HTTP client are its
children. When the call returns, be it with an open stream, the caller's context is what it was. The
span of a stream ends when the stream is closed.

Why no span of the first attempt? Most calls have no other, so it would double the spans and say
nothing that the call's own does not.

What goes into a span? Names, numbers and ids. Never a payload, a header or the message of an
exception, which may quote a prompt or a key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from ..core.call import Call, Handler
from ..core.ids import model_in
from ..core.verdict import SUCCESS, Kind, Usage
from .conventions import Conventions, error_type
from .measured import Labels, text_of
from .metrics import PREFIX
from .request_id import outcome_of

ATTEMPT = "attempt"
"""The name of the span of an attempt after the first."""

WAIT = f"{PREFIX}.wait"
"""The name of the event of a wait that is over."""

ALWAYS = ("prompt_tokens", "completion_tokens")
"""Parts of a usage that are shown even if they are 0."""


class Spans:
    """A layer that makes the spans; it stands before all others.

    Args:
        tracer: makes the spans.
        names: the conventions.
        operation: what the calls ask for: the first word of a span's name.
        fixed: attributes of each call's span.
        first_chunk: takes each call whose stream begins, and the seconds from its last send to the
            first chunk; None, the default, if nothing does.

    State: the names of models in the names of spans, whose number is bounded, and whether a failure
    of the tracer was logged.
    """

    def __init__(
        self,
        tracer: Tracer,
        names: Conventions,
        operation: str,
        fixed: Mapping[str, Any],
        first_chunk: Callable[[Call[Any], float], None] | None = None,
    ) -> None:
        self.names, self.first_chunk = names, first_chunk
        self.errors = Labels()
        self._models = Labels()
        self._start = tracer.start_span
        self._operation, self._fixed = operation, dict(fixed)
        self._failed = False

    async def __call__(self, call: Call[Any], call_next: Handler[Any, Any]) -> Any:
        """Run the call inside its span."""
        span = self._begin(call)
        if span is None:
            return await call_next(call)
        watch = _Watch(self, call, span)
        if span.is_recording() or self.first_chunk is not None:
            call.state.watch = watch
        token = attach(set_span_in_context(span))
        try:
            result = await call_next(call)
        except BaseException as error:
            watch.end(error=error)
            raise
        finally:
            _restore(token)
        if call.hold is None:
            watch.end(result=result)
        else:
            watch.opened(call)
            call.hold.on_close(watch.end)
        return result

    def start(self, name: str, attributes: Mapping[str, Any]) -> Span | None:
        """Start a span; return None if the tracer fails, which must not end the call."""
        try:
            return self._start(name, kind=SpanKind.CLIENT, attributes=attributes)
        except Exception as error:
            self.report(error)
            return None

    def report(self, error: Exception) -> None:
        """Log a failure of the tracer, once."""
        if not self._failed:
            self._failed = True
            logging.getLogger("resilient_infe").error(
                "a span failed (reported once): %r", error, exc_info=error
            )

    def _begin(self, call: Call[Any]) -> Span | None:
        partition = call.partition
        model = call.state.model or model_in(call.payload) or partition
        names, attributes = self.names, self._fixed.copy()
        if not model:
            return self.start(self._operation, attributes)
        attributes[names.model] = text_of(model)
        if partition and partition != model:
            attributes[f"{PREFIX}.partition"] = text_of(partition)
        return self.start(f"{self._operation} {self._models.of(model)}", attributes)


class _Watch:
    """The span of one call, and what is noted on it. State: per call."""

    __slots__ = ("_call", "_partition", "_sent_at", "_span", "_spans")

    def __init__(self, spans: Spans, call: Call[Any], span: Span) -> None:
        self._spans, self._call, self._span = spans, call, span
        self._partition = call.partition
        self._sent_at: float | None = None

    def attempt(self, call: Call[Any], send: Handler[Any, Any]) -> Any:
        """Return the coroutine that sends an attempt; after the first, inside a span of its own."""
        self._sent_at = call.runtime.now()
        return send(call) if call.sends < 2 else self._again(call, send)

    def waited(self, reason: str, seconds: float) -> None:
        """Note a wait that is over; one between two attempts with the outcome that led to it."""
        attributes: dict[str, Any] = {f"{PREFIX}.reason": reason, f"{PREFIX}.seconds": seconds}
        verdict = self._call.verdict
        if reason == "backoff" and verdict is not None:
            names = self._spans.names
            attributes[f"{PREFIX}.kind"] = verdict.kind.value
            attributes[names.error] = self._error(self._call, None, verdict.kind, verdict.status)
        try:
            self._span.add_event(WAIT, attributes)
        except Exception as failure:
            self._spans.report(failure)

    def opened(self, call: Call[Any]) -> None:
        """Note that a stream has begun."""
        names, attributes = self._spans.names, dict[str, Any]()
        if names.stream is not None:
            attributes[names.stream] = True
        seconds = 0.0 if self._sent_at is None else call.runtime.now() - self._sent_at
        if names.first_chunk is not None:
            attributes[names.first_chunk] = seconds
        try:
            self._span.set_attributes(attributes)
            if self._spans.first_chunk is not None:
                self._spans.first_chunk(call, seconds)
        except Exception as failure:
            self._spans.report(failure)

    def end(
        self, usage: Usage | None = None, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        """End the call's span."""
        call, span = self._call, self._span
        call.state.watch = None  # it refers to the call
        try:
            try:
                if span.is_recording():
                    self._describe(call, span, usage, result, error)
            finally:
                span.end()
        except Exception as failure:
            self._spans.report(failure)

    def _describe(
        self,
        call: Call[Any],
        span: Span,
        usage: Usage | None,
        result: Any,
        error: BaseException | None,
    ) -> None:
        names, verdict = self._spans.names, call.verdict
        attributes: dict[str, Any] = {f"{PREFIX}.attempts": call.sends}
        if call.request_id is not None:
            attributes[f"{PREFIX}.request_id"] = text_of(call.request_id)
        if call.server_request_ids:
            attributes[f"{PREFIX}.server_request_ids"] = call.server_request_ids
        usage = usage or (None if verdict is None else verdict.usage)
        if usage is not None:
            for field, name in names.usage.items():
                number = getattr(usage, field)
                if number > 0 or field in ALWAYS:
                    attributes[name] = number
        body = result if call.reply is None else call.reply.body
        if isinstance(body, Mapping):
            for name, key in ((names.response_id, "id"), (names.response_model, "model")):
                if isinstance(body.get(key), str):
                    text, mask = text_of(body[key]), call.state.mask
                    attributes[name] = text if mask is None else mask(text)
        kind = outcome_of(call, error)
        if kind is not SUCCESS:
            attributes[f"{PREFIX}.kind"] = kind.value
            self._fail(span, call, error, None if verdict is None else verdict.status, attributes)
        span.set_attributes(attributes)

    def _fail(
        self,
        span: Span,
        call: Call[Any],
        error: BaseException | None,
        status: int | None,
        attributes: dict[str, Any],
    ) -> None:
        """Say that a call or an attempt failed; being cancelled is not an error of the span."""
        kind = outcome_of(call, error)
        attributes[self._spans.names.error] = self._error(call, error, kind, status)
        if kind is not Kind.CANCELLED:
            span.set_status(StatusCode.ERROR)

    def _error(
        self, call: Call[Any], error: BaseException | None, kind: Kind, status: int | None
    ) -> str:
        name = None if call.verdict is None else call.verdict.error
        if name is None and error is not None:
            name = type(error).__name__
        return error_type(kind, status, name, self._spans.errors)

    async def _again(self, call: Call[Any], send: Handler[Any, Any]) -> Any:
        spans = self._spans
        attributes: dict[str, Any] = {spans.names.resend: call.sends - 1}
        if call.partition and call.partition != self._partition:  # where a `Fallback` went
            attributes[f"{PREFIX}.partition"] = text_of(call.partition)
        span = spans.start(ATTEMPT, attributes)
        if span is None:
            return await send(call)
        token = attach(set_span_in_context(span))
        try:
            result = await send(call)
        except BaseException as error:
            self._end_attempt(span, call, error)
            raise
        finally:
            _restore(token)
        if call.hold is None:
            self._end_attempt(span, call, None)
        else:
            call.hold.on_close(lambda _: self._end_attempt(span, call, None))
        return result

    def _end_attempt(self, span: Span, call: Call[Any], error: BaseException | None) -> None:
        """End the span of an attempt, which has no verdict yet unless it is a stream's."""
        status = None if call.reply is None else call.reply.status
        failed = error is not None or (status is not None and status >= 400)
        if error is None and call.verdict is not None:
            failed = call.verdict.kind is not SUCCESS
        attributes: dict[str, Any] = {}
        if status is not None:
            attributes[self._spans.names.status] = status
        try:
            try:
                if failed:
                    self._fail(span, call, error, status, attributes)
                span.set_attributes(attributes)
            finally:
                span.end()
        except Exception as failure:
            self._spans.report(failure)


def _restore(token: Token[Context]) -> None:
    """Make the context what it was; nothing is to be done if the call was closed in another one."""
    try:  # noqa: SIM105  # `suppress` costs a microsecond, on every call
        token.var.reset(token)
    except ValueError:
        pass
