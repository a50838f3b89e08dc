"""What an HTTP request is to the stack: where it belongs, and what its cost is estimated from.

A limit belongs to a key, a model and a server. So a client's calls are partitioned by the base URL,
the ``model`` of the body and a hash of the key; `call_options` may name another partition.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

from ..call import Call
from ..errors import NestedRetriesWarning
from ..options import current_options
from ..policies.headers import Lowered

LONGEST_REQUEST = 4 * 1024 * 1024
"""Bytes of a request that are looked at for a model and a cost."""

LONGEST_MODEL = 128
"""Characters of a model's name that tell partitions apart."""

KEY_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key")
"""Where APIs take their key: OpenAI's, Azure's, Anthropic's, Google's."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+-]")
"""What a model's name may not bring into a partition, which is logged."""

_VERSION = re.compile(r"^.*?/v[0-9][0-9a-z.]*(?=/|$)")
"""A path up to its version: ``/v1``, ``/tenant-a/v1``, ``/api/paas/v4``."""

_ENDPOINT = re.compile(
    r"/(chat/completions|completions|embeddings|responses|messages|models|moderations)\b.*$"
)


def describe(
    call: Call[Any], origin: str, path: str, header: Callable[[str], str | None], content: Any
) -> None:
    """Put the decoded body on the call, and name its partition where `call_options` does not.

    Args:
        call: the call, not yet sent.
        origin: the server, as ``host`` or ``host:port``.
        path: the URL's path.
        header: looks a request header up by its lower-case name.
        content: the body's bytes, or None where they cannot be looked at.
    """
    body = _decoded(content)
    call.body = {} if body is None else body
    key = next((value for name in KEY_HEADERS if (value := header(name))), "")
    name_partition(call, f"{origin}{base_path(path)}/{model_of(body)}#{key_hash(key)}")


def model_of(body: Any) -> str:
    """Return the model that a decoded body asks for, safe to log, or an empty text."""
    asked = body.get("model") if isinstance(body, dict) else None
    return _UNSAFE.sub("_", asked[:LONGEST_MODEL]) if isinstance(asked, str) else ""


def name_partition(call: Call[Any], partition: str) -> None:
    """Put the call into a partition, unless `call_options` names another."""
    options = current_options()
    if partition and (options is None or options.partition is None):
        call.partition = partition


@functools.lru_cache(maxsize=256)
def base_path(path: str) -> str:
    """Return the part of a path that belongs to the base URL: up to its version or endpoint."""
    versioned = _VERSION.match(path)
    return versioned[0] if versioned else _ENDPOINT.sub("", path).rstrip("/")


@functools.lru_cache(maxsize=64)
def key_hash(key: str) -> str:
    """Return eight hexadecimal digits that stand for a key; a token that expires has none."""
    if not key:
        return ""
    if key.removeprefix("Bearer ").startswith("eyJ") and key.count(".") >= 2:
        return "token"  # a JSON Web Token is renewed by the hour, and the limit stays the same
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:8]


def is_json(headers: Lowered) -> bool:
    """Whether the body is one JSON value, and not a stream of them (x-ndjson, stream+json)."""
    kind = str(headers.get("content-type", "")).partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.endswith("+json") and "stream" not in kind)


class NestedRetries:
    """Warns, once, that a client retries above the stack.

    SDKs made by Stainless (OpenAI, Anthropic and others) number their attempts in a header.
    """

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._told = False

    def look(self, header: Callable[[str], str | None]) -> None:
        """Warn if the request is a retry of the SDK's own."""
        if self._told or (header("x-stainless-retry-count") or "0") == "0":
            return
        self._told = True
        warn_of_nested_retries("the SDK retries above the stack")


def warn_of_nested_retries(what: str) -> None:
    """Warn that attempts multiply, and say what to set."""
    warnings.warn(
        f"{what}, so their attempts multiply: set max_retries=0 on the SDK's client, or give the "
        f"client itself to wrap(client, stack), which does so",
        NestedRetriesWarning,
        stacklevel=2,
    )


def _decoded(content: Any) -> Any:
    if not isinstance(content, bytes | str) or not 0 < len(content) <= LONGEST_REQUEST:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
