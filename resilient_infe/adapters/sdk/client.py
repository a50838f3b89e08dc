"""Copies an SDK's client and puts a stack around each of its attempts.

The SDKs have no public way to do this. The copy has the class and the attributes of the original,
so that a subclass with a constructor of its own survives. Private names of the SDKs are used in
this folder and nowhere else.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from ...aio import drive
from ...errors import ConfigurationError
from ...stack import Stack
from ..http.masking import KeyMask, mask_for
from ..http.partition import PartitionOf, Partitions
from ..httpx.client import resilient_client
from .attempt import Seat, SeatedTransport
from .driver import Driver

NEEDED = (
    "_build_request",
    "_client",
    "_idempotency_key",
    "_make_status_error_from_response",
    "_prepare_url",
    "_process_response",
    "_should_retry",
    "_sleep_for_retry",
    "copy",
    "max_retries",
    "request",
)
"""The attributes of a client that are used, apart from those that only some SDKs have."""

KEPT = ("_platform", "_strict_response_validation")
"""What the SDK drops when it derives a client, or looks up anew in a thread."""

MARK = "_resilient_infe"
"""The attribute of a wrapped client that holds its `Driver`."""

REPLACED = (
    MARK,
    "_build_middleware_chain",
    "_build_request",
    "_process_response",
    "_request",
    "copy",
    "request",
    "with_options",
)
"""The attributes that a wrapped client has of its own, in place of those of its class."""


def resilient_sdk(client: Any, stack: Stack, partition: PartitionOf | None = None) -> Any:
    """Return a copy of `client` that makes each of its attempts through `stack`.

    The http client inside is copied and shares hooks, headers, proxies and connection pool with the
    original, so closing either client closes both. A refusal of the stack is raised as the SDK's
    own error: ``APITimeoutError`` for a timeout or a deadline, else ``InternalServerError`` (503)
    with the reason. Every error of the SDK gets a note (PEP 678) with attempts, time and advice.

    Args:
        client: a client of the SDK.
        stack: the layers.
        partition: as for `wrap`.

    Raises:
        ConfigurationError: this version of the SDK has other private names.
    """
    missing = [name for name in NEEDED if not hasattr(client, name)]
    if missing:
        raise ConfigurationError(
            f"this version of {_package_of(client)} cannot be wrapped: its client has no "
            f"{', '.join(missing)}. Give it http_client=AsyncClient(transport=ResilientTransport("
            f"inner, stack)) and max_retries=0"
        )
    blocking = not inspect.iscoroutinefunction(client.request)
    seat = Seat(stack, Partitions(partition), blocking=blocking)
    http = resilient_client(client._client, stack, seat.transport, seat=seat)  # noqa: SLF001
    wrapped = _copy_of(client, http)
    if stack.retries:
        wrapped.max_retries = 0  # for those who ask whether it retries by itself
    return _driven(wrapped, seat)


def _copy_of(client: Any, http: Any) -> Any:
    """Return a copy of a client that uses another http client.

    What refers to the original would go around the stack. There are five cases:

    1. A cached property, such as ``client.chat``: it is left out, and made anew when it is read.
    2. A method of the original, or an object with a reference to it: a copy refers to the copy.
    3. Anthropic's chain of middleware, which is a function made by the original: made anew.
    4. A method that was replaced because the original is a wrapped client: that of the class.
    5. Anything else is shared.
    """
    wrapped = copy.copy(client)
    wrapped._client = http  # noqa: SLF001
    twins = [(client, wrapped), (client._client, http)]  # noqa: SLF001
    for name, value in vars(client).items():
        cached = isinstance(getattr(type(client), name, None), functools.cached_property)
        if cached or (MARK in vars(client) and name in REPLACED):
            del wrapped.__dict__[name]
        elif name != "_client":
            wrapped.__dict__[name] = _referring(value, twins)
    if hasattr(wrapped, "_middleware_chain"):
        wrapped._middleware_chain = wrapped._build_middleware_chain()  # noqa: SLF001
    return wrapped


def _referring(value: Any, twins: list[tuple[Any, Any]]) -> Any:
    """Return `value`, or a copy that refers to the copies where it refers to originals."""
    twin = _twin_of(value, twins)
    if twin is not value:
        return twin
    fields = getattr(value, "__dict__", None)
    if inspect.isroutine(value) or inspect.isclass(value) or not isinstance(fields, dict):
        return value
    changed = {name: _twin_of(each, twins) for name, each in fields.items()}
    if all(changed[name] is each for name, each in fields.items()):
        return value
    made = copy.copy(value)
    made.__dict__.update(changed)
    return made


def _twin_of(value: Any, twins: list[tuple[Any, Any]]) -> Any:
    for original, twin in twins:
        if value is original:
            return twin
        if isinstance(value, types.MethodType) and value.__self__ is original:
            return types.MethodType(value.__func__, twin)
    return value


def _driven(client: Any, seat: Seat, asked: int | None = None) -> Any:
    """Make a client run its attempts through the stack, and those derived from it too.

    The methods are replaced on the instance, so that its class stays the SDK's.
    """
    # Anthropic's `request` prepares and traces the request once, and its `_request` has the loop.
    loops = "_request" if hasattr(client, "_attempt_request") else "request"
    driver = Driver(client, seat, loops, _package_of(client), asked)
    derive = client.copy

    @functools.wraps(derive)
    def derived(*args: Any, **kwargs: Any) -> Any:
        http = kwargs.get("http_client")
        # An http client of the other kind stays as it is: the SDK raises for it.
        inner = getattr(http, "_transport", None)
        if hasattr(inner, seat.sends) and not isinstance(inner, SeatedTransport):
            kwargs["http_client"] = resilient_client(http, seat.stack, seat.transport, seat=seat)
        retries = kwargs.get("max_retries")
        made = derive(*args, **kwargs)
        for name in KEPT:
            if hasattr(client, name):
                setattr(made, name, getattr(client, name))
        return _driven(made, seat, retries if isinstance(retries, int) else asked)

    setattr(client, MARK, driver)
    _replace(client, loops, driver.request)
    _replace(client, "_build_request", driver.build_request)
    _replace(client, "_process_response", driver.process_response)
    client.copy = client.with_options = derived
    if hasattr(client, "_middleware_chain"):
        _number_middleware(client, driver)
    return client


def _number_middleware(client: Any, driver: Driver) -> None:
    build = client._build_middleware_chain  # noqa: SLF001
    client._middleware_chain = driver.middleware(client._middleware_chain)  # noqa: SLF001

    @functools.wraps(build)
    def numbered(*args: Any, **kwargs: Any) -> Any:
        return driver.middleware(build(*args, **kwargs))

    client._build_middleware_chain = numbered  # noqa: SLF001


def _replace(client: Any, name: str, method: Callable[..., Any]) -> None:
    """Replace a method of an instance, and keep its signature."""
    original = getattr(client, name)

    @functools.wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    @functools.wraps(original)
    async def awaiting(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **kwargs)

    @functools.wraps(original)
    def blocking(*args: Any, **kwargs: Any) -> Any:
        return drive(method(*args, **kwargs))

    if inspect.iscoroutinefunction(original):
        setattr(client, name, awaiting)
    else:
        setattr(client, name, blocking if inspect.iscoroutinefunction(method) else replaced)


def _package_of(client: Any) -> str:
    """Return the name of the SDK's package, such as openai, also for a subclass from elsewhere."""
    for cls in type(client).__mro__:
        if cls.__name__ in ("AsyncAPIClient", "SyncAPIClient"):
            return cls.__module__.partition(".")[0]
    return type(client).__module__.partition(".")[0]


def sdk_retries(function: Callable[..., Any]) -> int:
    """Return the ``max_retries`` of the SDK client behind a bound method; 0 for other functions."""
    retries = getattr(_client_behind(function), "max_retries", 0)
    return retries if isinstance(retries, int) else 0


def sdk_mask(function: Callable[..., Any]) -> KeyMask | None:
    """Return the mask of the key of the SDK client behind a bound method; None without one."""
    key = getattr(_client_behind(function), "api_key", None)
    return mask_for(key) if isinstance(key, str) and key else None


def _client_behind(function: Callable[..., Any]) -> Any:
    return getattr(getattr(function, "__self__", None), "_client", None)
