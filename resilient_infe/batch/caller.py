"""From a row to a result: the user's hooks around one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic

from .. import aio
from ..adapters.http.masking import printable
from ..classify.usage import usage_of
from ..core.call import Call, Reply
from ..core.ids import clean_id, model_in
from ..core.priority import Priority
from ..core.runtime import Clock
from ..core.verdict import Kind
from ..errors import BatchPaused, ConfigurationError, Draining, RowError
from ..rate.days import utc
from ..rate.estimate import estimate_tokens
from ..stack.stack import Send
from .lane import Taken, Withdrawn
from .monitor import listening
from .plain import NumberTooLong, as_read_back, digest_of, one_line
from .result import Failure, Result, Row, Value, failure_of, hook_failure
from .spending import Spending
from .trial import said

REQUEST_ADVICE = "the request= hook raised, and nothing was sent: the row is tried again next time"
ROW_ADVICE = "nothing was sent: fix the row and run the same again"
RECORD_ADVICE = "the reply has no value that can be recorded: the row is sent again next time"


@dataclass(frozen=True, slots=True)
class Hooks(Generic[Row, Value]):
    """What a user says of rows and replies; see `run_batch`."""

    request: Callable[[Row], Any] | None
    record: Callable[[Any], Value] | None
    row_id: Callable[[Row], str] | None
    partition: Callable[[Any], str | None] | None
    deadline: float | None
    priority: Priority = "batch"
    tenant: str | None = None


class Caller(Generic[Row, Value]):
    """Sends one row at a time, and tells what came of it.

    Args:
        send: what `Stack.around` made, or any async function of one payload.
        hooks: of the user.
        encode: whether a value must be JSON, for a journal.
        spending: counts what rows cost; None for a count without bounds.
        wall: reads the seconds since 1970.

    Attributes:
        spending: the same.
        stack: that it sends with, or None.
        monitor: listens to the stack; None without one.

    State: none.
    """

    def __init__(
        self,
        send: Callable[[Any], Awaitable[Any]],
        hooks: Hooks[Row, Value],
        *,
        encode: bool,
        spending: Spending | None = None,
        wall: Callable[[], float] = aio.wall_time,
    ) -> None:
        """Find out whether there is a stack."""
        if not callable(send):
            raise ConfigurationError(
                "send is what stack.around(...) returns, or an async function of one payload"
            )
        self._send = send
        self._run = send.run if isinstance(send, Send) else self._plainly
        self.stack = send.stack if isinstance(send, Send) else None
        self.monitor, self._emit = listening(self.stack, wall)
        self.spending = spending or Spending()
        self._hooks = hooks
        self._encode = encode

    def id_of(self, row: Row, index: int) -> str:
        """Return a row's id: by the hook, its own ``custom_id``, or made from its number."""
        hook = self._hooks.row_id
        found = hook(row) if hook is not None else _custom_id(row)
        if found is None:
            return f"row-{index + 1}"
        if not _is_id(found):
            raise ConfigurationError(
                f"row {index + 1}: an id is a text, and not empty; got {found!r}"
            )
        return found

    def call_of(self, row: Row, row_id: str) -> Call[Any] | Failure:
        """Return the call that a row asks for, or why there is none."""
        hooks = self._hooks
        try:
            payload = row if hooks.request is None else hooks.request(row)
            partition = None if hooks.partition is None else hooks.partition(payload)
            if partition is None:
                partition = model_in(payload)
        except RowError as error:
            return Failure(Kind.INVALID, printable(str(error)), code="bad_row", advice=ROW_ADVICE)
        except Exception as error:  # a user's hook may raise anything; the other rows go on
            return hook_failure("request_hook", error, REQUEST_ADVICE)
        return Call(
            payload,
            clean_id(row_id),
            partition,
            emit=self._emit,
            priority=hooks.priority,
            tenant=hooks.tenant,
        )

    def digest_of(self, call: Call[Any] | Failure) -> str | None:
        """Return what a request is known by, or None where there is nothing to go by."""
        return None if isinstance(call, Failure) else digest_of(call.payload)

    async def send(self, taken: Taken[Row], clock: Clock) -> Result[Row, Value]:
        """Send a row, and make a value of the reply.

        Args:
            taken: the row.
            clock: of the running loop.

        Raises:
            BatchPaused: a wait of over the stack's ``max_hint`` is needed: the server asks for it,
                or a limit of a day is used up.
            Draining: the stack's owner drains it.
            Withdrawn: the call was cut before it was sent.
            ConfigurationError: the value has no form in JSON, and a journal is written.
        """
        call = taken.call
        result: Result[Row, Value] = Result(taken.index, taken.row_id, taken.row)
        started, answered = clock(), False
        try:
            reply = await self._run(call, self._hooks.deadline)
        except (Draining, Withdrawn):
            raise
        except BaseException as error:  # whatever a transport raises is this row's failure alone
            if not isinstance(error, Exception) and not self._is_the_rows(error):
                raise
            result.exception = error
            result.failure = self._kept(failure_of(call, error))
            _check_hint(result.failure, call)
        else:
            answered = True
            known = call.verdict is not None and call.verdict.usage is not None
            result.usage = None if known else usage_of(reply)  # before a hook may change it
            self._take(result, reply, call.reply)
        result.seconds = clock() - started
        result.attempts = taken.sends + call.sends
        result.sent_for = call.state.sent_for
        result.request_ids = taken.request_ids + call.server_request_ids
        verdict = call.verdict
        if verdict is not None:
            result.usage = verdict.usage or result.usage
            result.status = verdict.status
        refused = call.state.refused
        if refused is not None:  # what a check refused was paid for, too
            result.usage = refused.and_last(verdict, result.usage)
        if result.status is None and call.reply is not None:
            result.status = call.reply.status
        estimate = None
        if answered and result.usage is None and self.spending.bounded:
            estimate = estimate_tokens(call.payload) if call.tokens is None else call.tokens
        self.spending.count(model_in(call.payload) or call.partition, result.usage, estimate)
        return result

    def _take(self, result: Result[Row, Value], reply: Any, seen: Reply | None) -> None:
        record = self._hooks.record
        try:
            value = reply if record is None else record(reply)
        except Exception as error:  # a user's hook may raise anything; the other rows go on
            result.exception = error
            result.failure = hook_failure("record_hook", error, RECORD_ADVICE)
            return
        if self._encode:
            if seen is not None and seen.raw is not None and seen.body is value:
                result.encoded = one_line(seen.raw)
            if result.encoded is None:
                try:
                    value, result.encoded = as_read_back(value)
                except NumberTooLong as error:  # of this row alone, unlike a type without a form
                    result.exception = error
                    result.failure = hook_failure("record_hook", error, RECORD_ADVICE)
                    return
        result.value = value

    def _kept(self, failure: Failure) -> Failure:
        """Return a failure as a journal replays it: an exception may carry any body."""
        if not self._encode or failure.body is None:
            return failure
        try:
            body = as_read_back(failure.body)[0]
        except ConfigurationError:
            body = None
        return replace(failure, body=body)

    def _is_the_rows(self, error: BaseException) -> bool:
        """Whether it is a cancellation of something that was awaited, and not of the run."""
        return aio.is_cancellation(error) and not aio.current().is_cancelled()

    async def _plainly(self, call: Call[Any], deadline: float | None) -> Any:
        if deadline is not None:
            raise ConfigurationError(
                "deadline= needs a stack with a Deadline layer: give stack.around(...) as send"
            )
        call.sends = 1
        return await self._send(call.payload)


def _check_hint(failure: Failure, call: Call[Any]) -> None:
    """Raise if there is a wait that is longer than the stack waits."""
    wait = call.state.asked_too_long
    if wait is None or failure.kind not in (Kind.RATE_LIMITED, Kind.REFUSED):
        return
    until = aio.wall_time() + wait
    advice = f"run the same again {utc(until)}"
    if failure.kind is Kind.RATE_LIMITED:
        advice = f"the server asks to wait {wait:,.0f} s: {advice}"
    raise BatchPaused(said(replace(failure, advice=advice)), failure.kind, until=until)


def _is_id(found: object) -> bool:
    return isinstance(found, str) and found != ""


def _custom_id(row: Any) -> str | None:
    return row.get("custom_id") if isinstance(row, Mapping) else getattr(row, "custom_id", None)
