"""A `Send` that pickles, for engines that run the same code in many processes.

A stack and a transport have sockets, locks and waiting calls, so they do not pickle. What pickles
is how they are made. There are three lifetimes:

1. The description, two functions, is made once, by the program that plans the work.
2. The stack is made once in each process, at the first call. All threads and event loops of the
   process share it, and so do all copies of the description that are unpickled there.
3. The transport is made once in each event loop, since its connections belong to that.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from .. import aio
from ..core.call import Call
from ..core.runtime import Runtime
from ..errors import ConfigurationError
from ..rate.layer import RateLimiter
from ..shared.shares import RedisShares
from .stack import Send, Stack

P = TypeVar("P")
R = TypeVar("R")

KEYS = frozenset(
    {"api_key", "apikey", "auth_token", "azure_ad_token", "authorization", "api-key", "x-api-key"}
)
"""Names of arguments and headers, in lower case, whose value is an API key."""


class PortableSend(Send[P, R]):
    """A `Send` that pickles: each process makes its own stack, and each event loop its transport.

    Calls are made as with any `Send`. Both pickle and cloudpickle take it, if they take the two
    functions: `functools.partial` of something that can be imported always pickles.

    What it made is closed when the event loop ends (the transport), and when the process ends (the
    transports that are left, and the shares of a `RedisShares`); or by `aclose`.

    Args:
        stack: returns the stack, as in ``partial(presets.batch, requests_per_minute=600)``.
        transport: returns the transport, as in ``InfeTransport``. An API key is not pickled: leave
            it out, and set ``INFE_API_KEY`` in each worker, or give a function that reads the key.

    Raises:
        ConfigurationError: one of them is not a function, or holds an API key.

    State: the stack is kept until the process ends, and a transport until its loop ends; neither is
    in this object. A call costs 70 us more, since it changes threads to get to the stack, as with
    `Stack.across_loops`.
    """

    __slots__ = ("_id", "_make_stack", "_make_transport")

    def __init__(
        self,
        stack: Callable[[], Stack],
        transport: Callable[[], Callable[[P], Awaitable[R]]],
    ) -> None:
        _check(stack, "stack", "partial(presets.batch, requests_per_minute=600)")
        _check(transport, "transport", "InfeTransport")
        self._make_stack, self._make_transport = stack, transport
        self._id = uuid.uuid4().hex
        self._handler: Any = None  # each loop has one of its own

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the description; a copy shares what is made in its process."""
        return _again, (type(self), self._make_stack, self._make_transport, self._id)

    @property
    def posts_bodies_to(self) -> str | None:  # type: ignore[override]
        """The path to which the transport of the running loop posts bodies, or None."""
        return self._made().here(self._make_transport).posts_bodies_to

    @property
    def stack(self) -> Stack:  # type: ignore[override]
        """The stack of this process, which is made if there is none."""
        return self._made().stack

    async def aclose(self) -> None:
        """Close the transport of this event loop; with the last one, give up the shares too.

        Await it when the calls of this loop have ended. A call that comes later opens them again.
        """
        made = _MADE.get(self._id)
        if made is not None:
            await made.close()

    def __repr__(self) -> str:
        """Show the names of the two functions, and no argument: one may be a secret."""
        names = map(_name, (self._make_stack, self._make_transport))
        return "<PortableSend: {} around {}>".format(*names)

    async def _enter(  # type: ignore[override]
        self, _: None, call: Call[P], deadline: float | None = None
    ) -> R:
        result: R = await self._made().here(self._make_transport).run(call, deadline)
        return result

    def _made(self) -> _Made:
        return _MADE.get(self._id) or _make(self._id, self._make_stack)


class _Made:
    """What one description has made in this process: a stack, and a `Send` for each loop."""

    def __init__(self, make: Callable[[], Stack]) -> None:
        stack: object = make()
        if not isinstance(stack, Stack):
            raise ConfigurationError(f"stack must return a Stack; got {type(stack).__name__}")
        self.stack = stack.across_loops()
        self._sends: dict[Runtime, tuple[Send[Any, Any], aio.Ending]] = {}

    def here(self, make: Callable[[], Callable[[Any], Awaitable[Any]]]) -> Send[Any, Any]:
        """Return what sends from the running loop."""
        runtime = aio.current()
        found = self._sends.get(runtime)
        if found is not None:
            return found[0]
        for other in [each for each in list(self._sends) if each.is_closed()]:
            self._sends.pop(other, None)  # a loop that did not say that it ends
        transport = make()

        async def close() -> None:
            self._sends.pop(runtime, None)
            await _close(transport)

        send = self.stack.around(transport)
        self._sends[runtime] = send, aio.Ending(close, runtime)
        return send

    async def close(self) -> None:
        """Close what the running loop has; with the last loop, give up the shares."""
        found = self._sends.get(aio.current())
        if found is not None:
            await found[1].close()
        if not self._sends:
            for shares in self._shares():
                await aio.run_on_bridge(shares.leave)

    def close_at_exit(self) -> None:
        """Close everything, when the process ends."""
        for _, ending in list(self._sends.values()):
            ending.close_at_exit()
        bridge = aio.bridge()
        bridge.stop()
        for shares in self._shares():
            aio.run_once_more(bridge.loop, shares.leave)

    def _shares(self) -> list[RedisShares]:
        limiters = (each for each in self.stack.layers if isinstance(each, RateLimiter))
        return [each.shared for each in limiters if each.shared is not None]


async def _close(transport: Any) -> None:
    close = getattr(transport, "aclose", None) or getattr(transport, "close", None)
    if close is not None and inspect.isawaitable(closing := close()):
        await closing


_MADE: dict[str, _Made] = {}
"""What this process has made, by the id of the description.

It belongs to the process, and not to an object: an engine unpickles the description anew for each
of its tasks, and two stacks in a process would be two limits."""

_lost: list[_Made] = []
_lock = threading.RLock()


def _make(name: str, make: Callable[[], Stack]) -> _Made:
    with _lock:
        made = _MADE.get(name)
        if made is None:
            made = _Made(make)
            if not _MADE:
                aio.at_exit(_close_at_exit)
            _MADE[name] = made
        return made


def _close_at_exit() -> None:
    for made in list(_MADE.values()):
        made.close_at_exit()


def _forget_parents() -> None:
    global _lock  # noqa: PLW0603  # another thread of the parent may have held it
    _lock = threading.RLock()
    _lost.extend(_MADE.values())  # to free it would close what it shares with the parent
    _MADE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)


def _again(
    cls: type[PortableSend[Any, Any]],
    stack: Callable[[], Stack],
    transport: Callable[[], Callable[[Any], Awaitable[Any]]],
    name: str,
) -> PortableSend[Any, Any]:
    made = cls(stack, transport)
    made._id = name  # it is the same description
    return made


def _check(make: Any, name: str, example: str) -> None:
    """Check that this is a function that makes something, and that it holds no API key."""
    instead = f"{name} must be a function that returns it, such as {example}"
    if not callable(make) or inspect.iscoroutinefunction(make):
        raise ConfigurationError(f"{instead}; got {type(make).__name__}")
    if hasattr(make, "handle") and not isinstance(make, type):
        raise ConfigurationError(f"{instead}; got what such a function returns")
    if isinstance(make, partial) and KEYS & set(_given(make)):
        raise ConfigurationError(
            f"an API key in {name} would be pickled: leave it out, and set INFE_API_KEY in each "
            f"worker, or give a function that reads the key there"
        )


def _given(make: partial[Any]) -> Iterator[str]:
    """Yield the names of the arguments that are not None, and those of headers among them."""
    given: Mapping[str, Any] = make.keywords
    with contextlib.suppress(TypeError, ValueError):  # not every callable has a signature
        given = inspect.signature(make.func).bind_partial(*make.args, **make.keywords).arguments
    for name, value in given.items():
        if value is not None and not callable(value):  # what fetches a key is no key
            yield name.lower()
        if isinstance(value, Mapping):
            yield from (str(header).lower() for header in value)


def _name(make: Any) -> str:
    inner = make.func if isinstance(make, partial) else make
    return getattr(inner, "__qualname__", type(inner).__name__)
