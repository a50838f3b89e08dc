"""What the library itself raises: refusals of its own, and the typed tree of the API's errors.

An exception that comes from a user's own transport is never replaced; these are raised only where
the library refuses, gives up on a timer, or is the transport itself (`InfeTransport`).
"""

from __future__ import annotations

from typing import Any

from .core.verdict import Kind


class ResilienceError(Exception):
    """The base of everything that the library raises."""


class ConfigurationError(ResilienceError, ValueError):
    """A value or a combination cannot work; the message says what to give instead."""


class LayerOrderError(ConfigurationError):
    """The layers stand in an order that cannot work; the message says why."""


class WrongLoopError(ResilienceError, RuntimeError):
    """A policy in use on one event loop was used from another loop or thread."""


class NestedRetriesWarning(UserWarning):
    """A client retries above a stack: their attempts multiply."""


class NestedStackWarning(NestedRetriesWarning):
    """A stack runs inside another: their retries would multiply."""


class Refused(ResilienceError):
    """The stack itself refused to send, or to go on.

    Args:
        message: what happened and what to do.
        retry_after: seconds after which trying again makes sense, or None for never.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Keep the message and the hint."""
        super().__init__(message)
        self.retry_after = retry_after


class CircuitOpen(Refused):
    """The circuit is open, or half-open with all its probes under way."""


class QueueFull(Refused):
    """As many calls wait as the queue may hold; waiting longer cannot help, so there is no hint."""


class Draining(Refused):
    """The stack is draining and takes no new calls."""


class TooManyPartitions(Refused):
    """Every partition that `Keyed` may hold is in use; raise `max_keys`, or use fewer keys."""


class DeadlineExceeded(Refused, TimeoutError):
    """The call's deadline passed, or cannot be met any more."""


class AttemptTimedOut(ResilienceError, TimeoutError):
    """One attempt took longer than `AttemptTimeout` allows."""


class StreamBroken(ResilienceError):
    """A stream ended before it was whole; what was delivered stays valid, nothing is re-sent."""


class StreamSilent(StreamBroken, TimeoutError):
    """The server kept a stream open and sent nothing more; what was delivered stays valid."""


class BatchError(ResilienceError):
    """The base of what ends a batch, or keeps it from starting; what was done is safe."""


class BatchPaused(BatchError):
    """The account, not a row, is the reason: nothing more is sent until that is fixed.

    Args:
        message: what the server said, and what to do.
        kind: what it meant.
    """

    def __init__(self, message: str, kind: Kind) -> None:
        """Keep the kind."""
        super().__init__(message)
        self.kind = kind


class RowError(BatchError, ValueError):
    """A row cannot be sent as it stands: not a request, or an id that another row has.

    Args:
        message: what is wrong, and what to do.
        line: its number in a file, from 1, or None.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        """Keep the number."""
        super().__init__(message)
        self.line = line


class JournalError(BatchError):
    """A journal cannot be used, or not any more; the message says what to do."""


class JournalInUse(JournalError):
    """Another run writes to the journal."""


class JournalMismatch(JournalError):
    """The journal belongs to another input, or to other settings."""


class JournalDamaged(JournalError):
    """Bytes that were safely written have changed since."""


class JournalWriteFailed(JournalError):
    """The disk takes no more; what was recorded before is safe."""


class InfeError(ResilienceError):
    """The base of the API's errors: what the server answered, in fields.

    Args:
        message: the server's own sentence, bounded and with control characters escaped.
        status: the HTTP status, or None where no response came.
        code: the error's ``code``, or None.
        type: the error's ``type``, or None.
        request_id: the server's ``x-request-id``, for its support.
        retry_after: seconds the server asks to wait, or None.
        advice: what to do about it, one sentence.
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
        """Keep every field; the text of the error is made from them by `__str__`."""
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.request_id = request_id
        self.retry_after = retry_after
        self.advice = advice

    def __str__(self) -> str:
        """Say what happened, what to do, and the id to quote to support."""
        parts = [f"{self.status} {self.message}" if self.status else self.message]
        if self.advice:
            parts.append(self.advice)
        if self.request_id:
            parts.append(f"x-request-id: {self.request_id}")
        return " | ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all fields, so that an error survives a process pool."""
        fields = {k: v for k, v in vars(self).items() if k not in ("message", "__notes__")}
        return _rebuild, (type(self), self.message, fields)


def _rebuild(cls: type[InfeError], message: str, fields: dict[str, Any]) -> InfeError:
    return cls(message, **fields)


class InvalidRequestError(InfeError):
    """400 and other 4xx: the request itself is wrong."""


class AuthenticationError(InfeError):
    """401: the API key was not accepted."""


class PaymentRequiredError(InfeError):
    """402, and 429 with ``insufficient_quota``: the account has nothing left to spend."""


class ForbiddenError(InfeError):
    """403: the plan does not include what was asked for."""


class ModelNotFoundError(InfeError):
    """404: there is no such model."""


class RateLimitError(InfeError):
    """429: more requests or tokens per minute than the key may use."""


class ServerError(InfeError):
    """500: the server failed."""


class UpstreamError(InfeError):
    """502, 504 and their like: the provider behind the server failed or timed out."""


class OverloadedError(InfeError):
    """503, 529: the server has more work than it can take."""


class MalformedResponseError(UpstreamError):
    """A success status whose body is not what the API promises (HTML, cut JSON, no ``choices``)."""


class TransportError(InfeError):
    """No response: the connection could not be made, or broke.

    `sent` is False when the request certainly never left.
    """

    sent = True


class NeverSentError(TransportError):
    """The connection could not even be made (refused, DNS): the request never left."""

    sent = False
