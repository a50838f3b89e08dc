"""Which proxy a request goes through, and what to say of it where the server cannot be reached.

aiohttp's own ``trust_env`` reads ``.netrc`` for every request, and refuses a host that stands there
because the request has a key already. So the environment is read here, once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # undocumented

from ...core import bounds
from ...errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Route:
    """How the server is reached.

    Attributes:
        proxy: the proxy's URL, or None; it may have a password.
        note: what to add where the server cannot be reached, or None.
    """

    proxy: str | None = field(default=None, repr=False)
    note: str | None = None


def route_to(base_url: str, proxy: str | None, *, trust_env: bool) -> Route:
    """Return how a base URL is reached.

    Args:
        base_url: the API's URL.
        proxy: the proxy's URL, or None for none but the environment's.
        trust_env: whether the environment's variables are heeded.

    Raises:
        ConfigurationError: the proxy's URL is malformed, or of a kind that is not supported. The
            message does not quote it, because it may have a password.
    """
    bounds.instance(trust_env, bool, "trust_env", "True or False")
    if proxy is not None:
        bounds.instance(proxy, str, "proxy", "text")
        return Route(proxy, f"it is asked through the proxy {_checked(proxy, 'proxy')}")
    parts = urlsplit(base_url)
    name = _variable(parts.scheme)
    if name is None:
        return Route()
    if not trust_env:
        return Route(note=f"{name} is set and is not used: trust_env=True (or proxy=) uses it")
    excluded = {"no": os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""}
    if proxy_bypass_environment(parts.netloc, excluded):
        return Route(note=f"{name} is set, and NO_PROXY leaves this server out of it")
    found = os.environ[name]
    found = found if "://" in found else f"http://{found}"
    return Route(
        found, f"it is asked through the proxy {_checked(found, name)}, which {name} names"
    )


def _variable(scheme: str) -> str | None:
    """Return the name of the variable that names a proxy for a scheme."""
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        # In a CGI script a client's header sets HTTP_PROXY.
        if os.environ.get(name) and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            return name
    return None


def _checked(proxy: str, name: str) -> str:
    """Return a proxy's host and port, which have nothing secret."""
    try:
        parts = urlsplit(proxy)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if not host or any(each.isspace() or not each.isprintable() for each in proxy):
        raise ConfigurationError(f"{name} must be a URL like http://proxy.example:3128")
    if scheme not in ("http", "https"):
        raise ConfigurationError(
            f"{name} must begin with http:// or https://: other kinds of proxies, such as SOCKS, "
            f"are not supported"
        )
    return host if port is None else f"{host}:{port}"
