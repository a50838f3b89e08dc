"""One attempt of an SDK as the stack sees it: the SDK's own code, down to its http client.

Why is all of it inside the stack? An SDK renews things for each attempt: it asks a token provider,
calls its hooks, runs its middleware, signs the request. What is renewed before the stack's waits is
stale after them. So the SDK builds and sends its request only when the stack has let the attempt
go, and its http client reports the response to the call that is under way.

The layers see an attempt as if only the transport were inside of them: its result is the response
or the transport's exception. What the SDK makes of it is kept on the call until the stack returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Protocol

from ...classify.headers import Lowered
from ...core.call import Call, Handler
from ...core.verdict import Kind, Verdict
from ...stack import Stack
from ..http.partition import Partitions
from ..http.request import note_key
from ..http.response import is_redirect
from ..httpx.blocking import BlockingDoor
from ..httpx.client import SharedTransport
from ..httpx.masked import masked_response
from .options import Rewind

under_way: ContextVar[SdkCall | None] = ContextVar("resilient_infe_sdk_call", default=None)
"""The call whose attempt runs in this task, or ran when the task was started."""


class Seat:
    """Where a stack sits in a wrapped SDK client and in those derived from it.

    Args:
        stack: the layers.
        partitions: finds the partition of each request.
        blocking: whether the client is synchronous.

    State: the stack's.
    """

    def __init__(self, stack: Stack, partitions: Partitions, *, blocking: bool = False) -> None:
        self.sends = "handle_request" if blocking else "handle_async_request"
        self.transport = BlockingSeatedTransport if blocking else SeatedTransport
        self.stack = stack
        self.partitions = partitions
        self.handler: Handler[Any, Any] = stack.handler(_attempt, blocking=blocking)


class Sdk(Protocol):
    """What a call asks of the wrapped client that makes it."""

    @property
    def seat(self) -> Seat:
        """Where the stack sits."""
        ...

    def wants_again(self, error: BaseException, status: int | None) -> bool:
        """Whether an exception asks for another attempt although the response does not."""
        ...

    def renewed(self, call: SdkCall, error: BaseException) -> bool:
        """Whether the client has renewed its credentials after an exception, and sends again."""
        ...


class SdkCall(Call[Any]):
    """A call of a wrapped SDK client. State: per call.

    Args:
        sdk: the client.
        options: the SDK's options of the request. They are the payload until a request is sent.
        send: makes one attempt with the SDK's own code.
        taken: the retries of the SDK's own before this call.
        rewind: brings the body back to its start, if such a retry has read it.

    Attributes:
        tries: how often `send` was called.
        sent: the last request that was sent, or None.
        response: the last response of the attempt; None before it.
        broken: the exception of the transport in the attempt, or None.
        value: what the SDK returned.
        error: what the SDK raised, or None.
        raised_above: whether `error` asks for another attempt after a response that does not.
        running: whether an attempt is under way.
        refused: whether the stack refused the call, or its deadline passed.
    """

    __slots__ = (
        "_renewal_used",
        "_taken",
        "broken",
        "error",
        "options",
        "raised_above",
        "refused",
        "response",
        "rewind",
        "running",
        "sdk",
        "send",
        "sent",
        "tries",
        "value",
    )

    def __init__(
        self,
        sdk: Sdk,
        options: Any,
        send: Callable[[], Awaitable[Any]],
        taken: int,
        rewind: Rewind | None,
    ) -> None:
        super().__init__(options)
        self.sdk, self.options, self.send, self._taken = sdk, options, send, taken
        self.tries, self.rewind = 0, rewind
        self.sent: Any = None
        self.running = self.refused = self._renewal_used = False
        self.value: Any = None
        self.response: Any = None
        self.error: Exception | None = None
        self.broken: Exception | None = None
        self.raised_above = False

    def adopt(self, twin: Call[Any]) -> None:
        """Take over what the SDK made of a twin's attempt, too."""
        assert isinstance(twin, SdkCall)
        super().adopt(twin)
        self.payload, self.sent, self.tries = twin.payload, twin.sent, twin.tries
        self.response, self.broken = twin.response, twin.broken
        self.value, self.error, self.raised_above = twin.value, twin.error, twin.raised_above

    @property
    def retries_taken(self) -> int:
        """The attempts before the current one, counted as the SDK counts them."""
        return self._taken + self.tries - 1

    async def carry(self, request: Any, send: Handler[Any, Any]) -> Any:
        """Send one request of the attempt, and note the outcome.

        An attempt may send several: a redirect, or the exchange of an ``auth=``. The last counts.
        """
        if self.hold is not None:
            self.hold.close()
        self.payload = self.sent = request
        self.hold = self.reply = self.verdict = None
        self.response = self.broken = None
        note_key(self, Lowered.of_raw(request.headers.raw))
        try:
            response = await send(self)
        except Exception as error:
            self.broken = error
            raise
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            response = masked_response(self, response)
        self.response = response
        _disarm_if_open(self)
        return response

    async def run(self) -> Any:
        """Make one attempt; return the last response, or None if the SDK needed none.

        Raises:
            Exception: that of the transport; or the SDK's, if no request was sent.
        """
        error = await self._run_sdk()
        again = self.replayable and not self._renewal_used
        if error is not None and again and self.sdk.renewed(self, error):
            self._renewal_used = True
            error = await self._run_sdk()
        try:
            if self.broken is not None:
                raise self.broken
            if error is not None:
                self._judge(error)
                if self.response is None:
                    raise error
            elif self.response is None:  # a middleware had the answer
                self.verdict = Verdict(Kind.OK, sent=False)
        finally:
            del error  # a frame that refers to what it raises is a cycle
        return self.response

    async def _run_sdk(self) -> Exception | None:
        """Run the SDK's code for one attempt; return what it raised."""
        self._forget()
        self.tries += 1
        if self.rewind is not None:
            self.rewind()
        try:
            self.value = await self.send()
        except Exception as error:
            self.error = error
        self.replayable = self.rewind is None or self.rewind.possible
        return self.error

    def _judge(self, error: Exception) -> None:
        """Set the verdict, if what the SDK raised is not about the response.

        1. It asks for another attempt, like ``RetryableError`` of a middleware: TRANSIENT.
        2. No request was sent, because the SDK's own code failed, such as a token provider: INVALID
           and not sent, which no other attempt helps and no circuit counts.
        3. The response redirects to where the http client does not follow: INVALID too.
        4. Else the response decides.
        """
        status, name = None if self.response is None else self.response.status_code, type(error)
        if self.sdk.wants_again(error, status):
            self.raised_above = True
            sent = status is not None
            self.verdict = Verdict(Kind.TRANSIENT, retryable=True, error=name.__name__, sent=sent)
        elif status is None:
            self.verdict = Verdict(Kind.INVALID, error=name.__name__, sent=False)
        elif is_redirect(status) and getattr(error, "response", None) is None:
            self.verdict = Verdict(Kind.INVALID, error=name.__name__, status=status)

    def _forget(self) -> None:
        self.value = self.response = self.error = self.broken = None
        self.raised_above = False

    def outcome(self) -> tuple[Any, Exception | None]:
        """Return what the SDK returned and what it raised, and let go of both."""
        found = self.value, self.error
        self._forget()
        return found


def _disarm_if_open(call: Call[Any]) -> None:
    """Let the SDK read an open body without the attempt's timeout: `idle` bounds it."""
    if call.hold is not None and call.state.timer is not None:
        call.state.timer.disarm()


async def _attempt(call: Call[Any]) -> Any:
    assert isinstance(call, SdkCall)
    token = under_way.set(call)
    call.running = True
    try:
        return await call.run()
    finally:
        call.running = False
        under_way.reset(token)


class SeatedTransport(SharedTransport):
    """A transport inside a wrapped SDK client. It reports to the call that is under way.

    A request that no call of the SDK makes goes through the stack here.

    Args:
        seat: where the stack sits.
        options: as for `SharedTransport`.

    State: the stack's.
    """

    def __init__(self, inner: Any, stack: Stack, original: Any, *, seat: Seat) -> None:
        super().__init__(inner, stack, original, refuse_with_response=True)
        self.seat, self._partitions = seat, seat.partitions

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request for the call that is under way, or else through the stack."""
        call = under_way.get()
        if call is None or not call.running or call.sdk.seat is not self.seat:
            return await super().handle_async_request(request)
        return await call.carry(request, self._send)


class BlockingSeatedTransport(BlockingDoor, SeatedTransport):
    """The same inside a synchronous client."""
