"""`wrap`: returns a client of the same type that sends its requests through a stack."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from ..classify.rule import Classify
from ..core import bounds
from ..core.call import Call, Handler
from ..core.priority import Priority, standing_of
from ..errors import ConfigurationError
from ..stack import Stack
from ..stack.options import current_options
from .function import wrap_blocking, wrap_function
from .http.partition import PartitionOf
from .httpx.client import BlockingTransport, resilient_client
from .sdk.client import resilient_sdk

T = TypeVar("T")

WRAPPABLE = (
    "an OpenAI, AsyncOpenAI or Azure client (or another made by Stainless), a Client or "
    "AsyncClient of httpx or httpx2, an aiohttp ClientSession, or a function, async or not"
)


def wrap(
    target: T,
    stack: Stack,
    *,
    classify: Classify | None = None,
    partition: PartitionOf | None = None,
    priority: Priority | None = None,
    tenant: str | None = None,
) -> T:
    """Return an object of the same type as `target` that sends its calls through `stack`.

    Args:
        target: an ``AsyncOpenAI`` or ``AsyncAzureOpenAI`` (or ``AsyncAnthropic``, whose SDK has the
            same generator, Stainless), an ``AsyncClient`` of httpx or httpx2, a ``ClientSession``
            of aiohttp, or an ``async def`` function or method; or the synchronous twin of one:
            ``OpenAI``, ``Client``, a ``def``, whose calls block as before. The layers of `stack`
            then run in a background thread (`Stack.across_loops`). For a transport such as
            `InfeTransport` use ``stack.around`` instead.
        stack: the layers.
        classify: only for a function: ``classify(result, error)`` says what its results and
            exceptions mean. It returns a `Verdict`, a `Kind`, or None for the stack's
            classification.
        partition: the partition of the calls, whose limits, slots and circuit they share: a text,
            or a function that takes the request and returns one, or None for the usual one. None,
            the default: the model that the request names. The function takes the ``Request`` of
            httpx, the ``ClientRequest`` of aiohttp, the body of a request of an SDK, or the
            arguments of a function by name. `call_options` overrides it.
        priority: the class of all calls of the wrapped client, unless a `call_options` block sets
            another: "interactive", "normal" or "batch".
        tenant: the name of the one that these calls are for, unless such a block names another.

    Raises:
        ConfigurationError: `target` cannot be wrapped, and the message lists what can; or
            `partition` is neither a text nor a function.

    State: the stack's. A wrapped client shares the connection pool of the original, so closing
    either closes both.
    """
    bounds.instance(stack, Stack, "wrap", "a Stack as the second argument, like presets.batch()")
    if priority is not None or tenant is not None:
        stack = _Labelled(stack, priority, tenant)
    untyped: Any = target
    client = _wrap_client(untyped, stack, partition)
    if client is None:
        return cast("T", _wrap_function(untyped, stack, classify, partition))
    if classify is not None:
        raise ConfigurationError(
            "classify= is for functions; for a client put ErrorClassifier(...) into its stack"
        )
    return cast("T", client)


class _Labelled(Stack):
    """A stack that names the class and the tenant of the calls of one client.

    Its calls run in the stack that it was made of, which counts and drains them.
    """

    def __init__(self, stack: Stack, priority: Priority | None, tenant: str | None) -> None:
        standing_of(priority, tenant)  # an unknown class raises
        super().__init__(*stack.layers, strict=False)
        self.layers = stack.layers
        self._labels = stack, priority, tenant

    def handler(self, inner: Handler[Any, Any], *, blocking: bool = False) -> Handler[Any, Any]:
        """Return a handler of the other stack that labels each call."""
        stack, priority, tenant = self._labels
        handler = stack.handler(inner, blocking=blocking)

        def labelled(call: Call[Any]) -> Coroutine[Any, Any, Any]:
            options = current_options()
            if call.priority is None and (options is None or options.priority is None):
                call.priority = priority
            if call.tenant is None and (options is None or options.tenant is None):
                call.tenant = tenant
            return handler(call)

        return labelled


def _wrap_client(target: Any, stack: Stack, partition: PartitionOf | None) -> Any:
    """Return the wrapped client, or None if it is not a client.

    Clients are recognised by the names of their classes, so no client library is imported.
    """
    lineage = type(target).__mro__
    families = {(cls.__module__.partition(".")[0], cls.__name__) for cls in lineage}
    is_stainless = {"AsyncAPIClient", "SyncAPIClient"} & {name for _, name in families}
    if is_stainless and hasattr(target, "_client") and hasattr(target, "with_options"):
        return resilient_sdk(target, stack, partition)
    if families & {("httpx", "AsyncClient"), ("httpx2", "AsyncClient")}:
        return resilient_client(target, stack, partition=partition)
    if families & {("httpx", "Client"), ("httpx2", "Client")}:
        return resilient_client(target, stack, BlockingTransport, partition=partition)
    if ("aiohttp", "ClientSession") in families:
        from .aiohttp.middleware import resilient_session  # aiohttp is slow to import

        return resilient_session(target, stack, partition)
    return None


def _wrap_function(
    target: Any, stack: Stack, classify: Classify | None, partition: PartitionOf | None
) -> Any:
    """Return the wrapped function.

    Raises:
        ConfigurationError: it is not an ``async def``; the message says what to do instead.
    """
    if inspect.isclass(target):
        raise ConfigurationError(
            f"{target.__qualname__} is a class: make an instance, wrap({target.__qualname__}(...), "
            f"stack)"
        )
    if inspect.iscoroutinefunction(getattr(type(target), "handle", None)):
        raise ConfigurationError(
            f"{type(target).__qualname__} is a transport: use stack.around(transport)"
        )
    if hasattr(type(target), "handle_async_request"):
        raise ConfigurationError(
            f"{type(target).__qualname__} is an httpx transport: use "
            f"ResilientTransport(transport, stack)"
        )
    calls = [target, getattr(type(target), "__call__", None)]  # noqa: B004  # an async __call__
    inner = [inspect.unwrap(each) for each in calls if callable(each)]  # SDKs decorate methods
    if any(map(inspect.isasyncgenfunction, inner)):
        raise ConfigurationError(
            "an async generator function cannot be wrapped: a retry would deliver items twice. "
            "Wrap an async def that returns the complete result, or the client that opens the "
            "stream, which keeps its slot to the stream's end."
        )
    if any(map(inspect.iscoroutinefunction, inner)):
        return wrap_function(cast("Any", target), stack, classify, partition)
    if any(map(inspect.isgeneratorfunction, inner)):
        raise ConfigurationError(
            "a generator function cannot be wrapped: a retry would deliver items twice. Wrap a def "
            "that returns the complete result"
        )
    if callable(target) and not hasattr(type(target), "handle_request"):
        return wrap_blocking(cast("Any", target), stack, classify, partition)
    raise ConfigurationError(
        f"cannot wrap {type(target).__qualname__}: pass {WRAPPABLE}; "
        f"stack.around(transport) takes any callable that returns an awaitable"
    )
