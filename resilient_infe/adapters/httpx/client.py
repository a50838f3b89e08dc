"""An httpx or httpx2 client that exists already, copied with a stack around its transports.

httpx offers no public way to do this: its private names are used here and nowhere else.
"""

from __future__ import annotations

import copy
import enum
import functools
from typing import Any

from ...core.call import Call
from ...errors import ConfigurationError
from ...stack import Stack
from ..http.response import closed_client_verdict
from .transport import ResilientTransport


class OriginalClient:
    """A client that was wrapped: whichever of it and a copy is closed first closes both, once.

    Args:
        client: the original, which is kept alive.

    State: whether this copy of it was closed first.
    """

    def __init__(self, client: Any) -> None:
        """Nothing was closed yet."""
        self.client = client
        self._closes = False

    def check_open(self) -> None:
        """Raise where nothing may be sent any more."""
        if self.client.is_closed:
            raise RuntimeError("Cannot send a request, as the client that was wrapped is closed.")

    def close(self) -> bool:
        """Note that the copy is closed; whether its transports still have to be."""
        if not self.client.is_closed:
            self._closes = True
            _set_state(self.client, "CLOSED")
        return self._closes


class SharedTransport(ResilientTransport):
    """A transport of a copied client: closed with the original, and of no use after it.

    Args:
        inner: the original's own transport.
        stack: the layers.
        original: whose it is, the same for all transports of one copy.
        options: as for `ResilientTransport`.

    State: the stack's, and the original's.
    """

    def __init__(self, inner: Any, stack: Stack, original: OriginalClient, **options: Any) -> None:
        """Remember whose transport it is."""
        super().__init__(inner, stack, **options)
        self._original = original

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request through the stack, while the original is open."""
        self._original.check_open()
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport, unless the original is closed."""
        if self._original.close():
            await super().aclose()

    async def __aexit__(self, *raised: Any) -> None:  # noqa: PYI036  # as they came
        """Leave the inner transport, once for each time that it was entered."""
        self._original.close()
        await super().__aexit__(*raised)

    async def _send(self, call: Call[Any]) -> Any:
        sent = False
        try:
            self._original.check_open()  # again, as the call may have waited long
            sent = True
            return await super()._send(call)
        except BaseException as error:
            if self._original.client.is_closed:
                call.verdict = closed_client_verdict(error, sent=sent)
            raise


def resilient_client(client: Any, stack: Stack, **options: Any) -> Any:
    """Return a copy of an httpx client whose transports have the stack around them.

    Cookies, hooks, headers, proxies and the connection pool are shared with the original, which is
    kept alive; closing either closes both. An open client can be wrapped, and the copy opened for
    itself.

    Raises:
        ConfigurationError: a version of the library has other names.
    """
    if not (hasattr(client, "_transport") and hasattr(client, "_mounts")):
        raise ConfigurationError(
            f"this version of {client.__class__.__module__.partition('.')[0]} is not known: build "
            f"the client with AsyncClient(transport=ResilientTransport(inner, stack))"
        )
    wrapped = copy.copy(client)
    wrapped.__class__ = _quiet_class(client.__class__)
    around = functools.partial(
        SharedTransport, stack=stack, original=OriginalClient(client), **options
    )
    wrapped._transport = around(inner=client._transport)  # noqa: SLF001
    wrapped._mounts = {  # noqa: SLF001
        pattern: None if each is None else around(inner=each)
        for pattern, each in client._mounts.items()  # noqa: SLF001
    }
    if not client.is_closed:
        _set_state(wrapped, "UNOPENED")
    return wrapped


def _set_state(client: Any, name: str) -> None:
    """Set a client's state, which no method does without closing or opening its transports."""
    state = getattr(client, "_state", None)
    if isinstance(state, enum.Enum):
        client._state = type(state)[name]  # noqa: SLF001


@functools.cache
def _quiet_class(cls: Any) -> Any:
    """Return the class of a copy: an SDK's client closes its pool when it is collected.

    The pool is the original's to close.
    """
    closes = hasattr(cls, "__del__")
    return type(cls.__name__, (cls,), {"__del__": lambda _: None}) if closes else cls
