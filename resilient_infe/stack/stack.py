"""The stack: an ordered list of layers around a transport.

The stack makes no decision about a call; its layers do. It links the layers once for each
transport, makes the `Call` of each payload, and counts outcomes. It also reports a description and
statistics, and can drain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Generic, Never, Self, TypeVar, Unpack

from .. import aio
from ..aio import task_on, this_thread
from ..core.call import Call, CallState, Handler, Layer
from ..core.ids import model_in
from ..core.priority import Priority, standing_of
from ..core.queue import Waiter, ages
from ..core.verdict import Kind
from ..errors import Draining, Refused
from ..events import ConfiguredLimit, Event, LimitsConfigured, Listener
from ..rate.layer import RateLimiter
from ..retry.layer import Retry, is_trying_again
from ..telemetry.emitter import Emitter
from ..telemetry.request_id import RequestIdLogger, outcome_of
from ..timeouts.deadline import Deadline
from .compiled import calling, compiled, handler_of
from .configure import Limits, configure
from .describe import StackStatistics, describe, statistics_of
from .from_config import FromConfig
from .layers import check_layer, checked_listeners, left_out, logger_in, name_of, replaced
from .nesting import warn_of_nesting
from .options import check_options, current_options, misplaced, set_options
from .order import check_order

P = TypeVar("P")
R = TypeVar("R")


class Stack(FromConfig):
    """An ordered list of layers that can be put around a transport.

    Args:
        layers: instances of the library's layers, or any ``async def layer(call, call_next)``; the
            first one is outermost.
        listeners: callables that receive every event, see `events`; by default there are none.
        strict: whether to refuse an order of layers that cannot work; True by default, since such
            an order does not fail by itself.

    Raises:
        LayerOrderError: the order cannot work (``strict`` only); the message says why.
        ConfigurationError: an argument is not a layer, or `listeners` has one that is not callable.

    State: shared by every `Send` and handler made from the stack. Other stacks may share its
    policies.
    """

    def __init__(
        self, *layers: Layer[Any, Any], listeners: Iterable[Listener] = (), strict: bool = True
    ) -> None:
        self.listeners, self._strict = checked_listeners(listeners), strict
        if self.listeners and logger_in(layers) is None:
            layers = (RequestIdLogger(log=False), *layers)  # events need request ids
        self.layers = layers
        for layer in layers:
            check_layer(layer)
        if strict:
            check_order(layers)
        self._emitter = Emitter(self.listeners) if self.listeners else None
        self._takes_deadlines = any(isinstance(layer, Deadline) for layer in layers)
        self.retries = any(isinstance(layer, Retry) for layer in layers)
        self._outer: tuple[Layer[Any, Any], ...] = ()  # the innermost first
        self._runtime: aio.Runtime | None = None
        self._crosses_loops = False
        self._draining = False
        self.told_of_nesting = False
        self._drained: list[Waiter] = []
        self._entered = self._attempts = 0
        self._outcomes: defaultdict[Kind, int] = defaultdict(int, dict.fromkeys(Kind, 0))

    def replace(self, *layers: Layer[Any, Any]) -> Stack:
        """Return a stack in which each given layer replaces the one of its kind.

        The other layers are the same objects, so both stacks share their limits and circuits.

        Args:
            layers: instances of layers. This stack must have exactly one layer of each one's class,
                or of a base class or subclass of it.

        Raises:
            ConfigurationError: this stack has no layer of that kind, or several.
            LayerOrderError: the new order cannot work (``strict`` only).
        """
        return self._with(replaced(self.layers, layers))

    def without(self, *kinds: type) -> Stack:
        """Return a stack without the layers of these classes.

        The other layers are the same objects, so both stacks share their limits and circuits.

        Args:
            kinds: classes of layers, such as `CircuitBreaker`. This stack must have exactly one
                layer of each.

        Raises:
            ConfigurationError: this stack has no layer of that kind, or several.
            LayerOrderError: the rest cannot work without it (``strict`` only).
        """
        return self._with(left_out(self.layers, kinds))

    def _with(self, layers: Iterable[Layer[Any, Any]]) -> Stack:
        made = Stack(*layers, listeners=self.listeners, strict=self._strict)
        made._outer = tuple(each for each in self._outer if logger_in([each]) is None)
        return made.across_loops() if self._crosses_loops else made

    def across_loops(self) -> Self:
        """Let threads and event loops of the process share this stack; return the stack itself.

        Its layers then run in a background thread, one for the process, and each attempt where its
        caller is. `wrap` of a synchronous client does this. Do it before the first call.
        """
        self._crosses_loops = True
        return self

    def around(self, transport: Callable[[P], Awaitable[R]]) -> Send[P, R]:
        """Return a function that sends payloads through the stack to `transport`.

        It takes the type of payload that the transport takes, and returns what it returns.

        Args:
            transport: a callable that takes a payload and returns an awaitable of the response. If
                it has a ``handle(call)`` method, as adapters do, that method receives the `Call`.

        Raises:
            ConfigurationError: the transport cannot be called.
        """
        if isinstance(transport, Send) and self.retries and transport.stack.retries:
            warn_of_nesting(self)
            transport.stack.told_of_nesting = True
        send = Send(self, compiled(self.layers, aio.from_home(handler_of(transport))), self._enter)
        send.posts_bodies_to = getattr(transport, "posts_bodies_to", None)
        return send

    def handler(self, inner: Handler[P, R], *, blocking: bool = False) -> Handler[P, R]:
        """Return a handler that runs `inner`, which takes a `Call`, inside the layers.

        If it is `blocking`, `inner` never suspends, and threads run the handler by `aio.drive`.
        """
        linked = compiled(self.layers, aio.from_home(inner))
        if blocking:
            self._crosses_loops = True
            return partial(aio.carry, enter=partial(self._enter_here, linked), blocking=True)
        return partial(self._enter, linked)

    def configure(
        self, *, model: str | None = None, **limits: Unpack[Limits]
    ) -> tuple[ConfiguredLimit, ...]:
        """Change limits while calls run; return those that are others now.

        Waiting calls that a higher limit has room for go at once. A lower one holds from now on:
        what was sent counts, and what is under way is not cut. The next statistics show them. All
        is checked before anything changes. Other stacks that share a policy have its new limits.

        Args:
            model: whose limits they are, if each model has its own; None for all models.
            limits: ``concurrency``, and the limits of the rate by the names of the presets, such as
                ``requests_per_minute``; ``account`` is a mapping of those over all models. Each is
                one value, or a mapping from model to value, where ``"*"`` is each model that has
                the usual limit; models that come later too. None keeps a limit.

        Raises:
            ConfigurationError: the stack has no such limit, a value is out of range, or one value
                is given and the models have different ones.
            WrongLoopError: the stack's event loop runs in another thread.
        """
        changes = self._ask(partial(configure, self.layers, limits, model))
        if changes:
            self.report(LimitsConfigured(changes))
        return changes

    def listen(self, *listeners: Listener, around: Layer[Any, Any] | None = None) -> None:
        """Pass every event of calls that begin from now on to these listeners too.

        Those calls pass the layer `around`, if one is given, before all others.

        Raises:
            ConfigurationError: one of the listeners is not callable.
        """
        self.listeners = (*self.listeners, *checked_listeners(listeners))
        self._emitter = Emitter(self.listeners) if self.listeners else None
        self._outer = (*self._outer, around) if around is not None else self._outer
        if self.listeners and logger_in((*self.layers, *self._outer)) is None:
            self._outer = (RequestIdLogger(log=False), *self._outer)  # layers may be linked already

    def report(self, event: Event) -> None:
        """Report an event that belongs to no call, to the listeners and the log."""
        logger = logger_in(self.layers)
        if logger is not None:
            logger.report(event, self._emitter)

    def _ask(self, question: Callable[[], R]) -> R:
        return aio.bridge().ask(question) if self._crosses_loops else question()

    def statistics(self) -> StackStatistics:
        """Return a frozen snapshot of the stack's counts and of its policies."""
        return self._ask(
            lambda: statistics_of(
                self.layers,
                now=self._runtime.now() if self._runtime is not None else 0.0,
                in_flight=self._in_flight(),
                calls=self._entered - self._in_flight(),
                attempts=self._attempts,
                outcomes={kind: count for kind, count in self._outcomes.items() if count},
                draining=self._draining,
            )
        )

    def beliefs(self) -> dict[str, dict[str, Any]]:
        """Return the limits learned so far, by partition, in a form that JSON can hold.

        Pass them as ``beliefs=`` to the stack of the next run, so that it starts from them.
        """
        limiters = (layer for layer in self.layers if isinstance(layer, RateLimiter))
        return dict(found for layer in limiters for found in layer.beliefs().items())

    async def drain(self, timeout: float | None = None) -> int:
        """Refuse new calls, wait for those in flight, and return how many are still in flight.

        Args:
            timeout: the longest time to wait in seconds, 0 or more; None waits until all ended.
        """
        self._draining = True
        runtime = self._runtime = aio.current()
        if self._in_flight() and (timeout is None or timeout > 0):
            waiter = Waiter(0)
            self._drained.append(waiter)
            with nullcontext() if timeout is None else runtime.cut_off_after(timeout):
                await runtime.park(waiter)
        return self._in_flight()

    def _in_flight(self) -> int:
        return self._entered - sum(self._outcomes.values())

    def _enter(
        self, handler: Handler[P, R], call: Call[P], deadline: float | None = None
    ) -> Coroutine[Any, Any, R]:
        if not self._crosses_loops:
            return self._enter_here(handler, call, deadline)
        return aio.carry(call, partial(self._enter_here, handler, deadline=deadline))

    async def _enter_here(
        self, handler: Handler[P, R], call: Call[P], deadline: float | None = None
    ) -> R:
        runtime = self._runtime
        if runtime is None or runtime.thread != this_thread() or task_on(runtime.loop) is None:
            runtime = self._runtime = aio.current()
        call.runtime = runtime
        call.started = runtime.now()
        state = call.state
        state.place = state.place or next(ages)
        call.emit = call.emit or self._emitter
        if self._draining:
            await runtime.checkpoint()
            raise call.refuse(Draining("the stack is draining and takes no new calls"))
        if is_trying_again() and self.retries:
            warn_of_nesting(self)
        options = current_options()
        if options is not None or deadline is not None:
            set_options(call, options, deadline, allowed=self._takes_deadlines)
        if call.partition is None:
            call.partition = model_in(call.payload)
        for layer in self._outer:
            handler = calling(layer, handler)
        self._entered += 1
        try:
            result = await handler(call)
        except BaseException as error:
            self._end(call, error)
            if isinstance(error, Refused):  # a loop over refused calls must not block the rest
                await runtime.checkpoint()
            raise
        if call.hold is None:
            self._end(call, None)
        else:
            call.hold.on_close(lambda _: self._end(call, None))
        return result

    def _end(self, call: Call[Any], error: BaseException | None) -> None:
        self._attempts += call.sends
        self._outcomes[outcome_of(call, error)] += 1
        if self._drained and not self._in_flight():
            while self._drained:
                aio.wake(self._drained.pop(0))

    def __str__(self) -> str:
        """Return a description: the layers, the worst case, and how many calls can be sent."""
        return describe(self.layers)

    def __repr__(self) -> str:
        return f"<Stack {' -> '.join(map(name_of, self.layers))}>"


_MISSING: Any = object()
_new = object.__new__

Enter = Callable[[Handler[P, R], Call[P], float | None], Coroutine[Any, Any, R]]
"""Enters a call into its stack; takes the linked layers, the call and its deadline in seconds."""


class Send(Generic[P, R]):
    """A function that sends payloads through a stack. `Stack.around` makes it.

    Call it like the transport, with one payload. State: none of its own.

    Attributes:
        stack: what it sends through.
        posts_bodies_to: the path to which the transport posts each payload as a body, or None.
    """

    __slots__ = ("_enter", "_handler", "posts_bodies_to", "stack")

    def __init__(self, stack: Stack, handler: Handler[P, R], enter: Enter[P, R]) -> None:
        self.stack = stack
        self.posts_bodies_to: str | None = None
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
        priority: Priority | None = None,
        tenant: str | None = None,
        **fields: Never,
    ) -> Coroutine[Any, Any, R]:
        """Send one payload through the stack and return the response of the transport.

        For the options, None takes the value of an enclosing `call_options` block, if there is one.

        Args:
            payload: the argument for the transport.
            tokens: the estimated cost of the call in tokens, 0 or more; None to let the rate
                limiter estimate it.
            partition: the name of the group of calls that share a limit, a circuit and slots; None
                for the ``model`` of the payload.
            request_id: the id of the call, ``[A-Za-z0-9._:-]{1,128}``; None to make one.
            deadline: seconds for the whole call, above 0; it needs a `Deadline` layer. None for
                that layer's own default.
            tags: labels; every event of the call has them.
            priority: the class of the call, "interactive", "normal" or "batch": while calls wait
                for a slot or for the rate limit, they are served in this order. Without one it is
                "normal".
            tenant: the name of the one that the call is for; the tenants of a class get equal
                shares of the limit while they wait.
            fields: not allowed; the fields of a request belong in `payload`.

        Raises:
            ConfigurationError: a value is out of range, or fields of a request were passed.
            Refused: the stack refused to send, or the deadline passed.
            Exception: the exception that the transport raised in the last attempt.
        """
        if fields or payload is _MISSING:
            raise misplaced(fields, given=payload is not _MISSING)
        if tokens is not None or partition is not None or deadline is not None:
            check_options(tokens, partition, deadline)
        call: Call[P] = _new(Call)  # the constructor would set every field
        call.payload, call.partition, call.tokens = payload, partition, tokens
        call.tags = dict(tags) if tags else {}
        call.state = CallState()
        if request_id is not None:
            call.request_id = request_id
        if priority is not None or tenant is not None:
            standing_of(priority, tenant)  # an unknown class raises
            call.priority, call.tenant = priority, tenant
        enter = self._enter  # calling an attribute's value is faster through a local
        return enter(self._handler, call, deadline)

    def run(self, call: Call[P], deadline: float | None = None) -> Coroutine[Any, Any, R]:
        """Send a `Call` that you made, so that you can read its attempts and verdict afterwards.

        Args:
            call: a new call; each call can be sent only once.
            deadline: seconds for the whole call, above 0; it needs a `Deadline` layer. None for
                that layer's own default.

        Raises:
            Exception: the same exceptions as for a payload.
        """
        return self._enter(self._handler, call, deadline)
