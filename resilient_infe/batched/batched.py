"""`await embed("text")` many times becomes few requests.

A limit of requests per minute is often met long before that of tokens: 10,000 texts at 600 RPM take
1,000 s one by one, and 5 requests if they travel together.

Why is this no layer? A layer sees one request, which has its payload already. This stands in front
of a stack: what it sends is one call there, with its limits, its retries and its circuit.

Who runs where? Each request runs in a task of its own, so that the caller whose item was the first
can go away without the others. A request that nobody waits for any more is cancelled.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar, cast

from ..aio import Runtime, current, keep
from ..classify.foreign import reply_of_exception
from ..classify.table import classify_exception, classify_reply
from ..core import bounds
from ..core.runtime import Alarm
from ..core.shared import Shared
from ..core.verdict import Verdict
from ..errors import ConfigurationError, MalformedAnswer, Refused, WrongLoopError
from ..rate.estimate import estimate_tokens, valid_count
from .embeddings import Embedding, Input, joined, parted, sender_of
from .packing import TOO_LARGE, BatchedStatistics, Entry, Packing, Parcel, is_divisible

I = TypeVar("I")  # noqa: E741  # an item
V = TypeVar("V")

MAX_ITEMS = 2_048
"""Items in a request: what OpenAI's API reference allows for embeddings."""

MAX_TOKENS = 300_000
"""Tokens in a request: what OpenAI's API reference allows for embeddings."""

MAX_WAIT = 0.02
"""Seconds that an item waits for others: less than the time of a request."""


def tokens_of(item: Any) -> float:
    """Return the estimated tokens of a text, or of a list of token ids."""
    return estimate_tokens({"input": item})


class Batched(Shared, Generic[I, V]):
    """Puts small calls together: ``await batched(item)`` returns the answer for one item.

    Args:
        send: sends a request: what ``stack.around(...)`` returns, or any async function of one
            payload.
        join: makes the payload of a request of a list of items.
        split: makes a list of answers, one for each item and in their order, of the response. An
            answer that is an exception is raised, for its item alone.
        max_items: the most items in a request, from 1; 2,048.
        max_tokens: the most tokens in a request, above 0; 300,000. An item that has more travels
            alone.
        max_wait: seconds that an item waits for others, 0 or more; 0.02.
        count: returns the tokens of an item; by default an estimate for a text.

    Raises:
        ConfigurationError: a value is out of its range, or one that should be called cannot be.
        WrongLoopError: from a call, while the object is in use on another event loop.

    A request that is refused as INVALID is sent again in halves, so that one bad item fails alone,
    and one that is too large is no failure of its items. If it fails in another way, each of its
    items gets that exception. The requests have the `call_options` of the code that made the
    object, not those of the callers.

    State: the items that wait, and the size that the server accepts. It serves one event loop at a
    time.
    """

    def __init__(
        self,
        send: Callable[[Any], Awaitable[Any]],
        join: Callable[[list[I]], Any],
        split: Callable[[Any], Sequence[V | BaseException]],
        *,
        max_items: int = MAX_ITEMS,
        max_tokens: float = MAX_TOKENS,
        max_wait: float = MAX_WAIT,
        count: Callable[[I], float] = tokens_of,
    ) -> None:
        if not callable(send):
            raise ConfigurationError(
                f"send is what stack.around(...) returns, or an async function; got "
                f"{bounds.shown(send)}"
            )
        bounds.function(join, 1, "join is a function (items)")
        bounds.function(split, 1, "split is a function (response)")
        bounds.function(count, 1, "count is a function (item)")
        self._packing = Packing(max_items, max_tokens, max_wait)
        self._send, self._join, self._split, self._count = send, join, split, count
        self._context = copy_context()
        self._alarm: Alarm | None = None
        self._runtime: Runtime | None = None

    @classmethod
    def embeddings(
        cls,
        target: Any,
        model: str,
        *,
        max_items: int = MAX_ITEMS,
        max_tokens: float = MAX_TOKENS,
        max_wait: float = MAX_WAIT,
        **fields: Any,
    ) -> Batched[Input, Embedding]:
        """Return a function for ``/v1/embeddings``: a text, or its token ids, in; a vector out.

        Args:
            target: ``stack.around(InfeTransport(path="/embeddings"))``, or a wrapped
                ``AsyncOpenAI``, whose ``embeddings.create`` is called.
            model: the name of the model.
            max_items: as above.
            max_tokens: as above.
            max_wait: as above.
            fields: further fields of each request, such as ``dimensions``.

        Raises:
            ConfigurationError: `target` sends to another endpoint, or a value is out of range.
        """
        return Batched(
            sender_of(target),
            partial(joined, model, fields),
            parted,
            max_items=max_items,
            max_tokens=max_tokens,
            max_wait=max_wait,
        )

    async def __call__(self, item: I) -> V:
        """Return the answer for one item.

        Raises:
            Exception: what the request raised, or `split` returned for the item.
        """
        entry = Entry(item, valid_count(self._count(item)) or 0.0)
        runtime = self._here()
        for parcel in self._packing.add(entry, runtime.now()):
            self._start(runtime, parcel)
        self._set_alarm()
        try:
            if not entry.granted:
                await runtime.park(entry)
        except BaseException:
            self._withdraw(entry)
            raise
        error, trace = entry.error, entry.trace
        entry.error = entry.trace = None
        if error is None:
            return cast("V", entry.value)
        try:
            raise error.with_traceback(trace)  # each caller who gets it begins from there
        finally:
            del error, trace  # a frame that refers to what it raises is a cycle

    def statistics(self) -> BatchedStatistics:
        """Return a frozen snapshot of what it has done."""
        return self._packing.statistics()

    def _here(self) -> Runtime:
        """Return the runtime of the running loop, which the object now belongs to.

        Raises:
            WrongLoopError: it is in use on another loop.
        """
        runtime = current()
        if runtime is self._runtime:
            return runtime
        try:
            keep(self._packing, runtime)
        except WrongLoopError:
            raise WrongLoopError(
                "this Batched is in use on another event loop: make one per loop (they may send "
                "through one stack, after stack.across_loops())"
            ) from None
        self._runtime, self._alarm = runtime, runtime.alarm(partial(self._ring, runtime))
        return runtime

    def _ring(self, runtime: Runtime, _: float) -> None:
        if runtime is self._runtime:  # else it is an alarm of the loop before
            for parcel in self._packing.take():
                self._start(runtime, parcel)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.set(self._packing.due)

    def _withdraw(self, entry: Entry) -> None:
        """Let an item go whose caller has gone; cancel a request that nobody waits for."""
        parcel = self._packing.withdraw(entry)
        self._set_alarm()
        if parcel is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                parcel.cancel()

    def _start(self, runtime: Runtime, parcel: Parcel) -> None:
        """Send a parcel in a task of its own."""
        self._packing.in_flight += 1
        try:
            run = partial(runtime.start, partial(self._run, runtime, parcel))
            parcel.cancel = self._context.copy().run(run)
        except RuntimeError as error:  # the loop is about to end, and starts no task
            self._packing.in_flight -= 1
            parcel.fail(error)

    async def _run(self, runtime: Runtime, parcel: Parcel) -> None:
        """Send a parcel, and then what has to be sent after it."""
        packing, following = self._packing, list[Parcel]()
        items = parcel.send()
        try:
            if parcel.waiting:
                following = await self._exchange(parcel, items)
            else:
                following = packing.lost(parcel)
        except BaseException:
            if parcel.waiting:
                ended = Refused("the event loop ends, and this item was not answered")
                for each in packing.given_up(parcel):
                    each.fail(ended)
            else:  # nobody waits for it: it was cancelled here
                following = packing.lost(parcel)
            raise
        finally:
            if runtime is self._runtime:  # else it is a request of a loop that was closed
                packing.in_flight -= 1
                for part in following:
                    self._start(runtime, part)

    async def _exchange(self, parcel: Parcel, items: list[Any]) -> list[Parcel]:
        """Send a parcel and hand out the answers; return what is to be sent next."""
        try:
            payload = self._join(items)
        except Exception as error:  # one item may be what it cannot join
            return self._refused(parcel, error, too_large=False)
        self._packing.requests += 1
        try:
            sent = self._send(payload)
            if not inspect.isawaitable(sent):
                raise ConfigurationError("send must be async: it returned what cannot be awaited")
            response = await sent
        except Exception as error:
            verdict = verdict_on(error)
            if is_divisible(verdict):
                return self._refused(parcel, error, too_large=verdict.status == TOO_LARGE)
            parcel.fail(error)
            return self._packing.lost(parcel)
        try:
            answers = list(self._split(response))
            if len(answers) != len(items):
                raise MalformedAnswer(f"{len(answers)} answers for {len(items)} items", response)
        except Exception as error:
            parcel.fail(error)
            return self._packing.lost(parcel)
        for entry, answer in zip(parcel.entries, answers, strict=True):
            if isinstance(answer, BaseException):
                entry.error = answer
            else:
                entry.value = answer
            entry.end()
        return self._packing.accepted(parcel)

    def _refused(self, parcel: Parcel, error: Exception, *, too_large: bool) -> list[Parcel]:
        following, given_up = self._packing.rejected(parcel, too_large=too_large)
        for each in given_up:
            each.fail(error)
        return following


def verdict_on(error: Exception) -> Verdict:
    """Return what an exception of a request means, whatever client raised it."""
    reply = reply_of_exception(error)
    if reply is None:
        return classify_exception(error)
    return classify_reply(reply.status, reply.headers, reply.body)
