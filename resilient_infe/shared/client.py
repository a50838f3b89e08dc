"""The client of Redis: checked, or made from a URL. Any client with `register_script` will do."""

from __future__ import annotations

import inspect
from typing import Any

from ..core import bounds
from ..errors import ConfigurationError


def from_url(url: str) -> Any:
    """Return a client for a URL; no message quotes the URL, which may have a password.

    Raises:
        ConfigurationError: the package is not installed, or it is not a URL of Redis.
    """
    try:
        from redis.asyncio import Redis  # an optional package
    except ImportError:
        raise ConfigurationError(
            "a URL of Redis needs the package redis: pip install 'resilient-infe[redis]'"
        ) from None
    try:
        return Redis.from_url(url)
    except Exception:  # the error may quote a part of the password
        raise ConfigurationError(
            "not a URL of Redis: give one like 'redis://host:6379/0', and quote what a password "
            "has of /, @, : and ? in it"
        ) from None


def check(client: Any) -> None:
    """Check what can be known of a client before it is used.

    Raises:
        ConfigurationError: it is not one, or is a URL that cannot be used.
    """
    if isinstance(client, str):
        from_url(client)  # it connects at the first call
        return
    execute = getattr(client, "execute_command", None)
    if hasattr(client, "register_script") and not isinstance(client, type):
        if execute is not None and not inspect.iscoroutinefunction(execute):
            raise ConfigurationError(
                f"RedisShares needs a client of asyncio, such as redis.asyncio.Redis; got "
                f"{bounds.shown(client)}"
            )
    elif not callable(client):
        raise ConfigurationError(
            f"RedisShares needs a client, a URL, or a function that returns a client; got "
            f"{bounds.shown(client)}"
        )


async def close(client: Any) -> None:
    """Close a client, however its package calls that; None is closed already."""
    end = getattr(client, "aclose", None) or getattr(client, "close", None)
    if end is not None and inspect.isawaitable(closing := end()):
        await closing
