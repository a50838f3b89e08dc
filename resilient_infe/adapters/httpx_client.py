"""An httpx or httpx2 client that exists already, copied with a stack around its transports."""

from __future__ import annotations

import copy
import enum
import functools
from typing import Any

from ..errors import ConfigurationError
from ..stack import Stack
from .httpx import ResilientTransport


def resilient_client(client: Any, stack: Stack, **options: Any) -> Any:
    """Return a copy of an httpx client whose transports have the stack around them.

    Cookies, hooks, headers, proxies and the connection pool are shared with the original, which is
    kept alive; closing either closes both. An open client can be wrapped, and the copy opened for
    itself. httpx offers no public way to do this: these private names are used here and nowhere
    else.

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
    wrapped._transport = ResilientTransport(client._transport, stack, owner=client, **options)  # noqa: SLF001
    wrapped._mounts = {  # noqa: SLF001
        pattern: None if each is None else ResilientTransport(each, stack, owner=client, **options)
        for pattern, each in client._mounts.items()  # noqa: SLF001
    }
    state = getattr(client, "_state", None)
    if isinstance(state, enum.Enum) and state.name == "OPENED":
        wrapped._state = type(state)["UNOPENED"]  # noqa: SLF001
    return wrapped


@functools.cache
def _quiet_class(cls: Any) -> Any:
    """Return the class of a copy: an SDK's client closes its pool when it is collected.

    The pool is the original's to close.
    """
    closes = hasattr(cls, "__del__")
    return type(cls.__name__, (cls,), {"__del__": lambda _: None}) if closes else cls
