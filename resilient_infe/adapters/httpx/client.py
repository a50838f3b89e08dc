"""Copies an existing httpx or httpx2 client and puts a stack around the copy's transports.

httpx has no public way to do this. Its private names are used in this file and nowhere else.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import functools
import inspect
import weakref
from collections.abc import Iterator
from typing import Any

from ...core.call import Call
from ...errors import ConfigurationError
from ...stack import Stack
from ..http.request import last_mask
from ..http.response import WRAPPED_TWICE, closed_client_verdict, is_redirect, sends_through
from .blocking import BlockingDoor
from .masked import mask_head
from .renewed_auth import RenewedAuth
from .synthetic import library_of
from .transport import ResilientTransport


class OriginalClient:
    """The client that was wrapped, as one copy of it sees it.

    The original and the copy share their transports. There are two cases:

    1. The copy is closed first: it marks the original as closed and closes the transports.
    2. The original is closed first: it has closed the transports, so the copy must not.

    Args:
        client: the original, which is kept alive.

    State: whether the copy was closed before the original.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._copy_closed_first = False

    def check_open(self) -> None:
        """Check that the original is open.

        Raises:
            RuntimeError: it is closed.
        """
        if self.client.is_closed:
            raise RuntimeError("Cannot send a request, as the wrapped client has been closed.")

    def close(self) -> bool:
        """Mark the original as closed; return whether the copy must close its transports.

        The copy calls this once for each of its transports, and must close all of them or none.
        """
        if not self.client.is_closed:
            self._copy_closed_first = True
            _set_state(self.client, "CLOSED")
        return self._copy_closed_first


class SharedTransport(ResilientTransport):
    """A transport of a copied client. It sends nothing once the original is closed.

    Args:
        inner: the original's own transport.
        stack: the layers.
        original: the client that was copied; the same object for all transports of one copy.
        options: as for `ResilientTransport`.

    State: the stack's, and that of `original`.
    """

    def __init__(self, inner: Any, stack: Stack, original: OriginalClient, **options: Any) -> None:
        super().__init__(inner, stack, **options)
        self._original = original

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request through the stack, if the original is open."""
        self._original.check_open()
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport, unless closing the original has done so."""
        if self._original.close():
            await super().aclose()

    async def __aexit__(self, *raised: Any) -> None:  # noqa: PYI036  # passed on unchanged
        """Exit the inner transport, once for each time that it was entered."""
        self._original.close()
        await super().__aexit__(*raised)

    async def _send(self, call: Call[Any]) -> Any:
        sent = False
        try:
            self._original.check_open()  # again: the call may have waited in the stack
            sent = True
            return await super()._send(call)
        except BaseException as error:
            if self._original.client.is_closed:
                call.verdict = closed_client_verdict(error, sent=sent)
            raise


class BlockingTransport(BlockingDoor, SharedTransport):
    """The same for a synchronous client."""


def resilient_client(
    client: Any, stack: Stack, transport: type[SharedTransport] = SharedTransport, **options: Any
) -> Any:
    """Return a copy of an httpx client that sends its requests through the stack.

    The copy shares cookies, hooks, headers, proxies and the connection pool with the original, and
    keeps it alive. Closing either closes both. The original may be open already; the copy is
    unopened, so ``async with`` works on it.

    Args:
        client: an ``AsyncClient`` or a ``Client`` of httpx or httpx2.
        stack: the layers.
        transport: the class of the copy's transports.
        options: as for that class.

    Raises:
        ConfigurationError: the installed version of the library has other private names, or the
            client already sends through this stack.
    """
    if not (hasattr(client, "_transport") and hasattr(client, "_mounts")):
        raise ConfigurationError(
            f"this version of {client.__class__.__module__.partition('.')[0]} is not supported: "
            f"build the client with AsyncClient(transport=ResilientTransport(inner, stack))"
        )
    inner = (client._transport, *client._mounts.values())  # noqa: SLF001
    if any(sends_through(each, stack) for each in inner):
        raise ConfigurationError(WRAPPED_TWICE)
    wrapped = copy.copy(client)
    wrapped.__class__ = _class_without_del(client.__class__)
    around = functools.partial(transport, stack=stack, original=OriginalClient(client), **options)
    wrapped._transport = around(inner=client._transport)  # noqa: SLF001
    wrapped._mounts = {  # noqa: SLF001
        pattern: None if each is None else around(inner=each)
        for pattern, each in client._mounts.items()  # noqa: SLF001
    }
    if not client.is_closed:
        _set_state(wrapped, "UNOPENED")
    if transport in (
        SharedTransport,
        BlockingTransport,
    ):  # an SDK asks its auth for each attempt by itself, and masks
        _renew_auth(wrapped)
        _mask_redirects(wrapped)
    return wrapped


def _renew_auth(client: Any) -> None:
    """Let the transports of a client ask its ``auth=`` again before an attempt.

    Basic authentication is left out, because it gives the same each time.
    """
    if not hasattr(client, "_build_request_auth"):
        return  # another version of the library: the auth is asked once
    cls, reference = client.__class__, weakref.ref(client)
    library = library_of(cls)

    def build_request_auth(*args: Any, **kwargs: Any) -> Any:
        auth = cls._build_request_auth(reference(), *args, **kwargs)
        constant = type(auth) in (library.Auth, library.BasicAuth)
        return auth if constant or isinstance(auth, RenewedAuth) else RenewedAuth(auth)

    client._build_request_auth = build_request_auth  # noqa: SLF001


def _mask_redirects(client: Any) -> None:
    """Mask the key in what a client makes of a redirect, above its transport.

    The address of a redirect may quote the key, and is told by an error. The transport cannot mask
    it, because the client goes there.
    """
    if not hasattr(client, "_send_handling_redirects"):
        return  # another version of the library
    cls, reference = client.__class__, weakref.ref(client)

    async def send_handling_redirects(*args: Any, **kwargs: Any) -> Any:
        with _masked_error():
            response = await cls._send_handling_redirects(reference(), *args, **kwargs)
        return _masked_redirect(response)

    def blocking(*args: Any, **kwargs: Any) -> Any:
        with _masked_error():
            response = cls._send_handling_redirects(reference(), *args, **kwargs)
        return _masked_redirect(response)

    is_async = inspect.iscoroutinefunction(cls._send_handling_redirects)
    client._send_handling_redirects = send_handling_redirects if is_async else blocking  # noqa: SLF001


@contextlib.contextmanager
def _masked_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        mask = last_mask()
        if mask is not None:
            mask.error(error)
        raise


def _masked_redirect(response: Any) -> Any:
    mask = last_mask()
    if mask is not None and (response.history or is_redirect(response.status_code)):
        mask_head(response, mask)
        url = str(response.url)
        if response.history and mask.text(url) != url:
            response.request.url = type(response.url)(mask.text(url))
    return response


def _set_state(client: Any, name: str) -> None:
    """Set a client's state. Each public way to do so also opens or closes the transports."""
    state = getattr(client, "_state", None)
    if isinstance(state, enum.Enum):
        client._state = type(state)[name]  # noqa: SLF001


@functools.cache
def _class_without_del(cls: Any) -> Any:
    """Return `cls`, or a subclass whose ``__del__`` does nothing if `cls` has one.

    An SDK's http client closes its connection pool in ``__del__``. A copy must not do that when it
    is garbage-collected, because the original still uses the pool.
    """
    has_del = hasattr(cls, "__del__")
    return type(cls.__name__, (cls,), {"__del__": lambda _: None}) if has_del else cls
