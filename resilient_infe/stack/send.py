"""What a stack makes of a transport: called like the transport, and resilient."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core.call import Call, Handler
from .options import CallOptions

if TYPE_CHECKING:
    from .stack import Stack

_new, _fill = object.__new__, Call.__init__

P = TypeVar("P")
R = TypeVar("R")

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
        payload: P,
        *,
        tokens: float | None = None,
        partition: str | None = None,
        request_id: str | None = None,
        deadline: float | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> Coroutine[Any, Any, R]:
        """Send one payload through the stack and return the transport's own response.

        Args:
            payload: what the transport takes.
            tokens: the call's estimated cost, from 0; None to let the rate limiter estimate.
            partition: the limit, circuit and slots it belongs to.
            request_id: its id, ``[A-Za-z0-9._:-]{1,128}``; None to make one.
            deadline: seconds for the whole call, above 0; needs a `Deadline` layer.
            tags: labels that appear in the call's events.

        Raises:
            ConfigurationError: a value is out of its range.
            Refused: the stack refused to send, or the deadline passed.
            Exception: whatever the transport raised in the last attempt.
        """
        if tokens is not None or deadline is not None:
            CallOptions(tokens=tokens, deadline=deadline)  # checks both
        call: Call[P] = _new(Call)  # to call the class costs as much again on Python 3.11
        _fill(call, payload, request_id, partition, tokens)
        if tags:
            call.tags = dict(tags)
        enter = self._enter  # apart from its call, since it is no method
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
