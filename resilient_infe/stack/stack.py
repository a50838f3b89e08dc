"""An ordered list of layers around a transport.

The stack itself decides nothing. It links the layers once, when a transport is given; it makes the
`Call` and counts the outcomes; it can describe itself, tell what is going on, and drain.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Generic, Never, TypeVar

from .. import aio
from ..aio import task_on, this_thread
from ..core.call import Call, Handler, Layer
from ..core.queue import Waiter
from ..core.verdict import Kind, Usage
from ..errors import ConfigurationError, Draining, NestedStackWarning, Refused
from ..events import Listener
from ..rate.layer import RateLimiter
from ..retry.layer import Retry, trying_again
from ..telemetry.emitter import Emitter
from ..telemetry.request_id import RequestIdLogger, outcome_of
from ..timeouts.deadline import Deadline
from .compiled import compiled, handler_of
from .describe import StackStatistics, describe, statistics_of
from .layers import check_layer, left_out, name_of, replaced
from .options import check_options, current_options
from .order import check_order

P = TypeVar("P")
R = TypeVar("R")

_ages = itertools.count(1)
"""Ages of calls: one count for all loops, since a policy may serve one loop after another."""


class Stack:
    """Layers, outermost first, to be put around a transport.

    Args:
        layers: instances of the library's layers, or any ``async def layer(call, call_next)``.
        listeners: take every event; see `events`.
        strict: whether an order that cannot work is refused.

    Raises:
        LayerOrderError: the order cannot work (``strict`` only); the message says why.
        ConfigurationError: something in the list is not a layer.

    State: shared by all that is built from it; the policies inside may be shared further.
    """

    def __init__(
        self, *layers: Layer[Any, Any], listeners: Iterable[Listener] = (), strict: bool = True
    ) -> None:
        """Check the layers; nothing is linked before a transport is given."""
        self.listeners, self._strict = _checked(listeners), strict
        if self.listeners and not any(isinstance(layer, RequestIdLogger) for layer in layers):
            layers = (RequestIdLogger(log=False), *layers)  # events need ids
        self.layers = layers
        for layer in layers:
            check_layer(layer)
        if strict:
            check_order(layers)
        self._emitter = Emitter(self.listeners) if self.listeners else None
        self._takes_deadlines = any(isinstance(layer, Deadline) for layer in layers)
        self.retries = any(isinstance(layer, Retry) for layer in layers)
        self._runtime: aio.Runtime | None = None
        self._draining = False
        self.told_of_nesting = False
        self._drained: list[Waiter] = []
        self._entered = self._attempts = 0
        self._outcomes: defaultdict[Kind, int] = defaultdict(int, dict.fromkeys(Kind, 0))

    def replace(self, *layers: Layer[Any, Any]) -> Stack:
        """Return a stack in which these layers stand in the places of those of their kinds.

        The other layers are the same objects, so both stacks share their limits and circuits.

        Args:
            layers: each an instance of a layer's class of which this stack has exactly one.

        Raises:
            ConfigurationError: this stack has no layer of that kind, or several.
        """
        kept = replaced(self.layers, layers)
        return Stack(*kept, listeners=self.listeners, strict=self._strict)

    def without(self, *kinds: type) -> Stack:
        """Return a stack that lacks the layers of these kinds; the others are the same objects.

        Args:
            kinds: classes of layers, such as `CircuitBreaker`.

        Raises:
            ConfigurationError: this stack has no layer of that kind, or several.
            LayerOrderError: it cannot work without (``strict`` only); the message says why.
        """
        kept = left_out(self.layers, kinds)
        return Stack(*kept, listeners=self.listeners, strict=self._strict)

    def around(self, transport: Callable[[P], Awaitable[R]]) -> Send[P, R]:
        """Return the transport made resilient, with its own types.

        Args:
            transport: takes the payload and returns an awaitable of the response. One that has a
                ``handle(call)`` method (an adapter) is given the `Call` itself.

        Raises:
            ConfigurationError: the transport cannot be called.
        """
        if isinstance(transport, Send) and self.retries and transport.stack.retries:
            self._warn_of_nesting()
            transport.stack.told_of_nesting = True
        handle = getattr(transport, "handle", None)
        if handle is not None:
            return Send(self, compiled(self.layers, handle), self._enter)
        return Send(self, compiled(self.layers, handler_of(transport)), self._enter)

    def handler(self, inner: Handler[P, R]) -> Handler[P, R]:
        """Return `inner`, which takes the `Call` itself, with the layers around it."""
        return partial(self._enter, compiled(self.layers, inner))

    def statistics(self) -> StackStatistics:
        """Return a frozen snapshot of what is going on."""
        return statistics_of(
            self.layers,
            now=self._runtime.now() if self._runtime is not None else 0.0,
            in_flight=self._in_flight(),
            calls=self._entered - self._in_flight(),
            attempts=self._attempts,
            outcomes={kind: count for kind, count in self._outcomes.items() if count},
            draining=self._draining,
        )

    def beliefs(self) -> dict[str, dict[str, Any]]:
        """Return what was learned of limits, for JSON, and ``beliefs=`` of the next run's stack."""
        found: dict[str, dict[str, Any]] = {}
        for layer in self.layers:
            if isinstance(layer, RateLimiter):
                found.update(layer.beliefs())
        return found

    async def drain(self, timeout: float | None = None) -> int:
        """Refuse new calls, wait for those under way, and return how many are left.

        Args:
            timeout: seconds to wait, from 0; None waits until all have ended.
        """
        self._draining = True
        runtime = self._runtime = aio.current()
        if self._in_flight() and (timeout is None or timeout > 0):
            waiter = Waiter(0)
            self._drained.append(waiter)
            if timeout is None:
                await runtime.park(waiter)
            else:
                with runtime.cut_off_after(timeout):
                    await runtime.park(waiter)
        return self._in_flight()

    def _in_flight(self) -> int:
        return self._entered - sum(self._outcomes.values())

    async def _enter(
        self, handler: Handler[P, R], call: Call[P], deadline: float | None = None
    ) -> R:
        runtime = self._runtime
        if runtime is None or runtime.thread != this_thread() or task_on(runtime.loop) is None:
            runtime = self._runtime = aio.current()
        call.runtime = runtime
        call.started = runtime.now()
        call.state.place = next(_ages)
        if self._emitter is not None and call.emit is None:
            call.emit = self._emitter
        if self._draining:
            await runtime.checkpoint()
            raise call.refuse(Draining("the stack is draining and takes no new calls"))
        if self.retries and trying_again.get():
            self._warn_of_nesting()
        options = current_options()
        if options is not None:
            options.fill(call)
            deadline = options.deadline if deadline is None else deadline
        if deadline is not None:
            self._set_deadline(call, deadline)
        self._entered += 1
        try:
            result = await handler(call)
        except BaseException as error:
            self._end(call, error)
            if isinstance(error, Refused):  # a caller that asks in a loop must not block the rest
                await runtime.checkpoint()
            raise
        if call.hold is None:
            self._end(call, None)
        else:
            call.hold.on_close(partial(self._end_stream, call))
        return result

    def _set_deadline(self, call: Call[Any], seconds: float) -> None:
        if not self._takes_deadlines:
            raise ConfigurationError(
                "this stack has no Deadline layer to keep a call's deadline: add Deadline(), which "
                "bounds only the calls that bring one"
            )
        call.deadline = call.started + seconds

    def _end(self, call: Call[Any], error: BaseException | None) -> None:
        self._attempts += call.sends
        kind = outcome_of(call, error)
        self._outcomes[kind] += 1
        if self._drained and not self._in_flight():
            waiters, self._drained = self._drained, []
            for waiter in waiters:
                aio.wake(waiter)

    def _end_stream(self, call: Call[Any], _: Usage | None) -> None:
        self._end(call, None)

    def _warn_of_nesting(self) -> None:
        if self.told_of_nesting:
            return
        self.told_of_nesting = True
        warnings.warn(
            "a stack with Retry runs inside another one with Retry: their attempts multiply. "
            "Give only one of them a Retry layer.",
            NestedStackWarning,
            stacklevel=3,  # the line that calls `around`, or that awaits the call
        )

    def __str__(self) -> str:
        """Return the layers in words, the worst case, and what fits the deadline."""
        return describe(self.layers)

    def __repr__(self) -> str:
        """Return the layers' names."""
        return f"<Stack {' -> '.join(map(name_of, self.layers))}>"


_MISSING: Any = object()
_new, _fill = object.__new__, Call.__init__

Enter = Callable[[Handler[P, R], Call[P], float | None], Coroutine[Any, Any, R]]
"""How a call enters its stack: through these layers, with this deadline."""


class Send(Generic[P, R]):
    """A transport made resilient: call it with a payload, as one would the transport.

    Made by `Stack.around`. State: none of its own.
    """

    __slots__ = ("_enter", "_handler", "stack")

    def __init__(self, stack: Stack, handler: Handler[P, R], enter: Enter[P, R]) -> None:
        """Keep the linked layers, and what makes a stack count a call."""
        self.stack = stack
        self._handler = handler
        self._enter = enter

    def __call__(
        self,
        payload: P = _MISSING,
        *,
        tokens: float | None = None,
        partition: str | None = None,
        request_id: str | None = None,
        deadline: float | None = None,
        tags: Mapping[str, Any] | None = None,
        **fields: Never,
    ) -> Coroutine[Any, Any, R]:
        """Send one payload through the stack and return the transport's own response.

        Args:
            payload: what the transport takes.
            tokens: the call's estimated cost, from 0; None to let the rate limiter estimate.
            partition: the limit, circuit and slots it belongs to.
            request_id: its id, ``[A-Za-z0-9._:-]{1,128}``; None to make one.
            deadline: seconds for the whole call, above 0; needs a `Deadline` layer.
            tags: labels that appear in the call's events.
            fields: none; the fields of a request belong into its payload.

        Raises:
            ConfigurationError: a value is out of its range, or fields of a request are given.
            Refused: the stack refused to send, or the deadline passed.
            Exception: whatever the transport raised in the last attempt.
        """
        if fields or payload is _MISSING:
            raise _no_payload(fields)
        if tokens is not None or partition is not None or deadline is not None:
            check_options(tokens, partition, deadline)
        call: Call[P] = _new(Call)  # to call the class costs as much again on Python 3.11
        _fill(call, payload, request_id, partition, tokens)
        if tags:
            call.tags = dict(tags)
        enter = self._enter  # a callable in an attribute is called faster through a local
        return enter(self._handler, call, deadline)

    def run(self, call: Call[P], deadline: float | None = None) -> Coroutine[Any, Any, R]:
        """Send a `Call` of one's own making, which afterwards tells the attempts and the verdict.

        Args:
            call: a new one; a call is sent through a stack once.
            deadline: seconds for the whole call, above 0; needs a `Deadline` layer.

        Raises:
            Exception: as when it is called with a payload.
        """
        return self._enter(self._handler, call, deadline)


def _no_payload(fields: Iterable[str]) -> ConfigurationError:
    """Return the error for a call that gives a request's fields, as an SDK's methods take them."""
    given = ", ".join(f"{name!r}: ..." for name in fields) or "..."
    return ConfigurationError(
        f"give what the transport takes as one value: await send({{{given}}}); the options beside "
        f"it are tokens, partition, request_id, deadline and tags"
    )


def _checked(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    with contextlib.suppress(TypeError):
        found = tuple(listeners)
        if all(callable(listener) for listener in found):
            return found
    raise ConfigurationError("listeners is a list of callables that take an event")
