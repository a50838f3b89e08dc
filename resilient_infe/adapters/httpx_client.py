"""An httpx or httpx2 client that exists already, copied with a stack around its transports.

httpx offers no public way to do this: its private names are used here and nowhere else.
"""

from __future__ import annotations

import copy
import enum
import functools
from typing import Any

from ..errors import ConfigurationError
from ..stack import Stack
from .httpx import ResilientTransport


class SharedTransport(ResilientTransport):
    """A transport of a copied client: closed with the original, and of no use after it.

    Args:
        inner: the original's own transport.
        stack: the layers.
        client: the original, which is kept alive.
        options: as for `ResilientTransport`.

    State: the stack's, and the original's.
    """

    def __init__(self, inner: Any, stack: Stack, client: Any, **options: Any) -> None:
        """Remember whose transport it is."""
        super().__init__(inner, stack, owner=client, **options)
        self._client = client

    def _check_open(self) -> None:
        if self._client.is_closed:
            raise RuntimeError("Cannot send a request, as the client that was wrapped is closed.")

    def _note_closed(self) -> None:
        _set_state(self._client, "CLOSED")


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
    wrapped._transport = SharedTransport(client._transport, stack, client, **options)  # noqa: SLF001
    wrapped._mounts = {  # noqa: SLF001
        pattern: None if each is None else SharedTransport(each, stack, client, **options)
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
