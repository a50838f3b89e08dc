"""The client of Redis: checked, or made from a URL. Any client with `register_script` will do."""

from __future__ import annotations

import inspect
from typing import Any

from ..core import bounds
from ..errors import ConfigurationError


def from_url(url: str) -> Any:
    """Return a client for a URL.

    Raises:
        ConfigurationError: the package is not installed, or it is no URL of Redis.
    """
    try:
        from redis.asyncio import Redis  # an optional package
    except ImportError:
        raise ConfigurationError(
            "a URL of Redis needs the package redis: pip install 'resilient-infe[redis]'"
        ) from None
    try:
        return Redis.from_url(url)
    except ValueError as error:
        raise ConfigurationError(f"not a URL of Redis: {error}") from None


def check(client: Any) -> None:
    """Check what can be known of a client before it is used.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(client, str):
        if "://" not in client:
            raise ConfigurationError(
                f"a URL of Redis is like 'redis://host:6379/0'; got {bounds.shown(client)}"
            )
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
