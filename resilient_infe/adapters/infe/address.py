"""Where the API is: its usual URL, and what another one must be like."""

from __future__ import annotations

from ...core import bounds
from ...errors import ConfigurationError

BASE_URL = "https://api.infe.io/v1"

_NOT_IN_URL = "@?# \t\r\n\0"
"""A path is put behind the base URL, and the URL is logged and kept in journals."""


def check_base_url(base_url: object) -> None:
    """Check that a path can be put behind a URL, and that nothing in the URL is secret.

    Raises:
        ConfigurationError: it cannot, or something may be. The message does not quote it.
    """
    bounds.instance(base_url, str, "base_url", "text")
    url = str(base_url)
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"base_url must start with https:// (or http://), like {BASE_URL}")
    if any(map(url.__contains__, _NOT_IN_URL)):
        raise ConfigurationError(
            f"base_url must have no credentials, query, fragment or blanks, like {BASE_URL}; the "
            f"key is passed as api_key= (or by INFE_API_KEY, or --api-key-file)"
        )
