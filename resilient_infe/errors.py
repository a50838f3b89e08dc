"""The exceptions that the library itself raises: its refusals, and the typed errors of the API.

An exception raised by the user's own transport is never replaced. The library raises its own only
where it refuses a call, where a timer has run out, or where it is the transport (`InfeTransport`).
"""

from __future__ import annotations

from typing import Any

from .core.verdict import Kind


class ResilienceError(Exception):
    """The base class of every exception that the library raises."""


class ConfigurationError(ResilienceError, ValueError):
    """A value, or a combination of values, cannot work; the message says what to give instead."""


class LayerOrderError(ConfigurationError):
    """The layers of a stack are in an order that cannot work; the message says why."""


class WrongLoopError(ResilienceError, RuntimeError):
    """A policy that is in use on one event loop was used from another loop or thread."""


class NestedRetriesWarning(UserWarning):
    """A client retries around a stack that also retries: the numbers of attempts multiply."""


class NestedStackWarning(NestedRetriesWarning):
    """A stack runs inside another stack: the numbers of attempts would multiply."""


class OpenStreamsWarning(UserWarning):
    """Open streams hold every slot while a call waits, which may be for ever."""


class Refused(ResilienceError):
    """The stack itself refused to send the request, or to continue the call.

    Args:
        message: what happened and what to do.
        retry_after: seconds after which another try makes sense, or None if none ever does.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CircuitOpen(Refused):
    """The circuit is open, or it is half-open and all of its probes are in flight."""


SHORTEST_HINT = 0.1
"""Seconds: a caller that finds a queue full is not asked to come back sooner."""


class QueueFull(Refused):
    """The queue holds its maximum of calls; `retry_after` says when it will probably have room."""


class SlotTaken(Refused):
    """The call gives its slot back and has to queue again, which `Retry` does.

    The slots were narrowed after it got one; or it is larger than the whole rate limit, and waits
    for all others.
    """


class Draining(Refused):
    """The stack is draining and accepts no new calls."""


class TooManyPartitions(Refused):
    """Every partition that `Keyed` may hold is in use; raise `max_keys`, or use fewer keys."""


class DayUsedUp(Refused):
    """A declared or stated limit of a day has no room for the call; `retry_after` says when."""


class DeadlineExceeded(Refused, TimeoutError):
    """The call's deadline has passed, or can no longer be met."""


class AttemptTimedOut(ResilienceError, TimeoutError):
    """One attempt took longer than `AttemptTimeout` allows."""


class MalformedAnswer(ResilienceError):
    """The server answered, but `check` of the `ErrorClassifier` refused each answer.

    Args:
        complaint: what is wrong with the last answer.
        answer: that answer, as `check` got it; None if it is not known.
    """

    def __init__(self, complaint: str, answer: Any = None) -> None:
        super().__init__(complaint)
        self.complaint, self.answer = complaint, answer

    def __str__(self) -> str:
        """Return the complaint in a sentence."""
        return f"the answer is not of the asked form: {self.complaint}"


class StreamBroken(ResilienceError):
    """A stream ended before it was complete. What was delivered stays valid; nothing is re-sent."""


class StreamStalled(StreamBroken, TimeoutError):
    """The server kept a body open but sent nothing more; what was delivered stays valid."""


class BatchError(ResilienceError):
    """The base class of errors that end a batch or prevent its start. Finished rows are safe."""


class BatchPaused(BatchError):
    """Every row would meet the same, such as a wrong model or a key that is not accepted.

    No row is given up for it: put it right, and run the same again.

    Args:
        message: the server's message, and what to do.
        kind: the kind of the outcome that paused the batch.
        until: when to run it again, in seconds since 1970; None if that is not known.
    """

    def __init__(self, message: str, kind: Kind, *, until: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.until = until


class RowError(BatchError, ValueError):
    """A row cannot be sent: it is not a valid request, or another row has the same id.

    Args:
        message: what is wrong, and what to do.
        line: the row's line number in its file, from 1, or None if it does not come from a file.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class JournalError(BatchError):
    """A journal cannot be used, or can no longer be used; the message says what to do."""


class JournalInUse(JournalError):
    """Another run is writing to the journal."""


class JournalMismatch(JournalError):
    """The journal belongs to another input, or was written with other settings."""


class JournalDamaged(JournalError):
    """Bytes that were safely written to the journal have changed since."""


class JournalWriteFailed(JournalError):
    """The disk accepts no more data; everything recorded before is safe."""


class InfeError(ResilienceError):
    """The base class of the API's errors; its fields hold what the server answered.

    Args:
        message: the server's message, limited in length, with control characters escaped.
        status: the HTTP status, or None if there was no response.
        code: the ``code`` of the error in the body, or None.
        type: the ``type`` of the error in the body, or None.
        request_id: the server's ``x-request-id``, to quote to its support, or None.
        retry_after: seconds that the server asks to wait, or None.
        advice: one sentence on what to do about it, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002  # the reference's own word
        request_id: str | None = None,
        retry_after: float | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.request_id = request_id
        self.retry_after = retry_after
        self.advice = advice

    def __str__(self) -> str:
        """Return the status and message, the advice, and the id to quote to support."""
        parts = [f"{self.status} {self.message}" if self.status else self.message]
        if self.advice:
            parts.append(self.advice)
        if self.request_id:
            parts.append(f"x-request-id: {self.request_id}")
        return " | ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle every field, so that an error survives the way back from a process pool."""
        fields = {k: v for k, v in vars(self).items() if k not in ("message", "__notes__")}
        return _rebuild, (type(self), self.message, fields)


def _rebuild(cls: type[InfeError], message: str, fields: dict[str, Any]) -> InfeError:
    return cls(message, **fields)


class InvalidRequestError(InfeError):
    """400 and other 4xx: the request itself is wrong."""


class AuthenticationError(InfeError):
    """401: the API key was not accepted."""


class PaymentRequiredError(InfeError):
    """402, and 429 with ``insufficient_quota``: the account has no credit left."""


class ForbiddenError(InfeError):
    """403: the plan does not include what the request asks for."""


class ModelNotFoundError(InfeError):
    """404: the model does not exist."""


class RateLimitError(InfeError):
    """429: the key has used up its requests or tokens per minute."""


class ServerError(InfeError):
    """500: the server failed."""


class UpstreamError(InfeError):
    """502, 504 and similar: the provider behind the server failed or timed out."""


class OverloadedError(InfeError):
    """503, 529: the server has more work than it can handle."""


class MalformedResponseError(UpstreamError):
    """A success status whose body is not a valid answer (HTML, cut JSON, no ``choices``)."""


class TransportError(InfeError):
    """There is no response: the connection could not be made, or it broke.

    `sent` is False if the request certainly did not leave this machine.
    """

    sent = True


class NeverSentError(TransportError):
    """The connection could not be made (refused, DNS): the request never left this machine."""

    sent = False
