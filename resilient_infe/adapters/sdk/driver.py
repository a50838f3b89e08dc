"""The method of an SDK that makes its requests, with a stack around each of the attempts.

The SDK's own loop over attempts is used for one attempt at a time. There are two cases:

1. The stack has a `Retry`. It repeats the attempts, and the SDK's number of retries is not used:
   3 attempts of the SDK times 3 of the stack would be 9 requests. Only 0 is heard: "send me once".
2. It has none. The SDK's number, its rules and its pauses hold, and each of its attempts is a call
   of the stack.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from ...core.verdict import EMPTY_ANSWER, SUCCESS
from ...errors import AttemptTimedOut, Refused
from ...stack.options import current_options
from ...telemetry.note import add_note
from ..http.request import hide_key, mask_of, warn_of_nested_retries
from ..httpx.masked import cut_response
from ..httpx.synthetic import annotate, bad_gateway, in_place_of, library_of, refusal
from .attempt import SdkCall, Seat, under_way
from .options import Rewind, prepare
from .streams import freed_when_dropped

DECIDED_BY_STATUS = frozenset((408, 425, 429))
"""Statuses below 500 after which the stack tries again, with the hint of the response."""


class Driver:
    """Makes the requests of one wrapped client.

    Args:
        client: the wrapped client, whose methods are still the SDK's own.
        seat: where the stack sits.
        name: the name of the SDK's method that loops over the attempts.
        root: the name of the SDK's package.
        asked: the retries that were asked for when this client was derived from a wrapped one; None
            if none were.

    State: whether it has warned of retries that stay off.
    """

    def __init__(
        self, client: Any, seat: Seat, name: str, root: str, asked: int | None = None
    ) -> None:
        self.client, self.seat, self.asked = client, seat, asked
        self._sdk = root
        self._run = _awaitable(getattr(client, name))
        self._build = client._build_request  # noqa: SLF001
        self._process = _awaitable(client._process_response)  # noqa: SLF001
        self._sleep = _awaitable(client._sleep_for_retry)  # noqa: SLF001
        self._initial = client.max_retries
        self._told = False

    async def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        """Make a request in the place of the SDK's own method."""
        retries = options.get_max_retries(self.client.max_retries)
        if not isinstance(retries, int) or retries < 0:  # the SDK refuses it
            return await self._run(cast_to, options, *args, **kwargs)
        options = self._prepared(options)
        most, retries = self._bounds(options, retries)
        rewind = None
        for taken in range(retries + 1):
            call = self._call(taken, rewind, cast_to, options, args, kwargs)
            call.state.max_attempts = most
            value, error = await self._through_stack(call)
            rewind = call.rewind
            if error is None:
                return freed_when_dropped(value, mask_of(call)) if kwargs.get("stream") else value
            hide_key(call, error)
            try:
                again, response = self._asks_again(call, error)
                if taken == retries or not again:
                    raise error
            finally:
                del error  # a frame that refers to what it raises is a cycle
            await self._sleep(
                retries_taken=taken, max_retries=retries, options=options, response=response
            )
        raise AssertionError("unreachable")

    def build_request(self, options: Any, *, retries_taken: int = 0, **kwargs: Any) -> Any:
        """Build a request with the number of its attempt in its header."""
        taken = self._retries_taken(retries_taken)
        call = self._call_under_way()
        if call is not None:
            call.rewind = Rewind(options)
            call.state.single = call.rewind.moves
        return self._build(options, retries_taken=taken, **kwargs)

    async def process_response(self, *, retries_taken: int = 0, **kwargs: Any) -> Any:
        """Make the SDK's result, which knows the number of its attempt."""
        taken = self._retries_taken(retries_taken)
        return await self._process(retries_taken=taken, **kwargs)

    def middleware(self, chain: Any) -> Any:
        """Return a chain of middleware that sees the number of the attempt; None for none."""
        if chain is None:
            return None

        def numbered(request: Any) -> Any:  # the chain may be one of async functions
            request.retries_taken = self._retries_taken(request.retries_taken)
            return chain(request)

        return numbered

    def _call_under_way(self) -> SdkCall | None:
        call = under_way.get()
        return None if call is None or call.sdk.seat is not self.seat else call

    def _retries_taken(self, usual: int) -> int:
        call = self._call_under_way()
        return usual if call is None else call.retries_taken

    def _prepared(self, options: Any) -> Any:
        """Return a copy of the options, with the key that all attempts share."""
        options = copy.copy(options)
        if options.idempotency_key is None and options.method.lower() != "get":
            options.idempotency_key = self.client._idempotency_key()  # noqa: SLF001
        return options

    def _bounds(self, options: Any, retries: int) -> tuple[int | None, int]:
        """Return the most attempts that the stack may send, or None; and the SDK's own retries."""
        given = current_options()
        most = None if given is None else given.max_attempts
        if not self.seat.stack.retries:
            return most, retries if most is None else min(retries, most - 1)
        stated = options.max_retries if isinstance(options.max_retries, int) else None
        if stated is None and self.client.max_retries > self._initial:
            stated = self.client.max_retries  # a library above has set it
        stated = self.asked if stated is None else stated
        if stated == 0:
            return 1, 0
        if stated is not None and not self._told:
            self._told = True
            warn_of_nested_retries(
                "the SDK's retries were turned on above the stack and stay off, because attempts "
                "would multiply: set max_retries=0 to send a request once, and "
                "Retry(max_attempts=...) in the stack"
            )
        return most, 0

    def _call(
        self, taken: int, rewind: Rewind | None, cast_to: Any, options: Any, args: Any, kwargs: Any
    ) -> SdkCall:
        async def send() -> Any:
            once = copy.copy(options)
            once.max_retries = 0
            return await self._run(cast_to, once, *args, **kwargs)

        call = SdkCall(self, options, send, taken, rewind)
        prepare(call, self.client, options, self.seat.partitions)
        return call

    async def _through_stack(self, call: SdkCall) -> tuple[Any, Exception | None]:
        """Return the SDK's result, or the exception to raise."""
        try:
            response = await self.seat.handler(call)
        except Exception as error:
            return None, self._typed(call, error)
        verdict, above = call.verdict, call.raised_above
        value, raised = call.outcome()
        if raised is not None:
            raised = self._clearer(call, raised)
        if verdict is None or verdict.kind is SUCCESS or response is None:
            return value, raised
        annotate(response, call)
        in_place = response.status_code < 300 and verdict.error != EMPTY_ANSWER
        if in_place and call.hold is None and not above:
            response = in_place_of(call, response)
            if verdict.retryable and not self.seat.stack.retries:
                response.headers["x-should-retry"] = "true"  # the SDK's own retries are on
            raised = self._status_error(response)
        if raised is not None:
            add_note(raised, call, verdict.advice)
        return value, raised

    def _typed(self, call: SdkCall, error: Exception) -> Exception:
        """Return the SDK's exception for one that came out of the stack."""
        advice = None if call.verdict is None else call.verdict.advice
        of_transport = error is call.broken
        _, raised = call.outcome()
        if isinstance(error, Refused | AttemptTimedOut):
            call.refused = not isinstance(error, AttemptTimedOut)
            raised = self._refused(call, error)
        elif not of_transport or raised is None:
            return error
        raised = self._clearer(call, raised)
        add_note(raised, call, advice)
        return raised

    def _clearer(self, call: SdkCall, raised: Exception) -> Exception:
        """Return an exception that can be shown, for two of which the SDK read the body.

        1. An error too long to be read in the attempt may quote the key: then it is cut and masked.
        2. A body that cannot be decoded: the exception says what is wrong with it.
        """
        response = getattr(raised, "response", None)
        failed = response is not None and response.status_code >= HTTPStatus.BAD_REQUEST
        if failed and call.hold is not None:
            shown = cut_response(call, response)
            return raised if shown is response else self._status_error(shown)
        cause = raised.__cause__
        if call.sent is None or not isinstance(
            cause, library_of(call.sent.__class__).DecodingError
        ):
            return raised
        made = self._status_error(bad_gateway(call, str(cause)))
        made.__cause__ = cause
        return made

    def _refused(self, call: SdkCall, error: Exception) -> Exception:
        http = self.client._client  # noqa: SLF001
        if call.sent is None:
            call.payload = http.build_request(call.options.method, str(self.client.base_url))
        try:
            return self._status_error(refusal(call, error))
        except Exception as late:  # the http library's own ReadTimeout
            timeout: Exception = sys.modules[self._sdk].APITimeoutError(request=call.payload)
            timeout.__cause__ = late
            return timeout

    def _status_error(self, response: Any) -> Exception:
        made: Exception = self.client._make_status_error_from_response(response)  # noqa: SLF001
        return made

    def _asks_again(self, call: SdkCall, error: Exception) -> tuple[bool, Any]:
        """Return whether the SDK would try again after an exception, and the response that asks."""
        if call.refused or not call.replayable:
            return False, None
        ask = getattr(self.client, "_should_retry_exception", None)
        if ask is not None:
            again, response = ask(error)
            return bool(again), response
        response = getattr(error, "response", None)
        if response is not None:
            return bool(self.client._should_retry(response)), response  # noqa: SLF001
        return _is_a(error, "APIConnectionError"), None

    def wants_again(self, error: BaseException, status: int | None) -> bool:
        """Whether an exception of the SDK or its middleware asks for another attempt.

        After an error of the server, the response decides if it can; its hint would be lost.
        """
        ask = getattr(self.client, "_should_retry_exception", None)
        if ask is None:
            return False
        if status is None or status < 400:
            return bool(ask(error)[0])
        decided = status >= 500 or status in DECIDED_BY_STATUS
        return not decided and _is_a(error, "RetryableError")

    def renewed(self, call: SdkCall, error: BaseException) -> bool:
        """Whether the client has renewed its credentials after an exception, and sends again.

        A client says so by a rule of its own, which asks for another attempt after a response where
        the SDK's usual rule does not: Anthropic's after a 401.
        """
        response = getattr(error, "response", None)
        rules = [
            each.__dict__["_should_retry"]
            for each in type(self.client).__mro__
            if "_should_retry" in each.__dict__
        ]
        if response is None or len(rules) < 2 or not self.seat.stack.retries:
            return False
        asked = rules[0](self.client, response) and not rules[-1](self.client, response)
        return bool(asked) and call.state.max_attempts != 1


def _is_a(error: BaseException, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(error).__mro__)


def _awaitable(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of an SDK's client as it is awaited, also if the client is synchronous."""
    if inspect.iscoroutinefunction(method):
        return method

    async def at_once(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return at_once
