"""What an HTTP request is to the stack: where it belongs, and what its cost is estimated from.

A limit belongs to a key, a model and a server. So a client's calls are partitioned by the base URL,
the ``model`` of the body and a hash of the key; `call_options` may name another partition.
"""

from __future__ import annotations

import functools
import hashlib
import re
import warnings
from typing import Any

from ...classify.body import decoded
from ...core.call import Call, Headers
from ...errors import NestedRetriesWarning
from ...stack.options import current_options

LONGEST_REQUEST = 4 * 1024 * 1024
"""Bytes of a request that are looked at for a model and a cost."""

LONGEST_MODEL = 128
"""Characters of a model's name that tell partitions apart."""

KEY_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key")
"""Where APIs take their key: OpenAI's, Azure's, Anthropic's, Google's."""

_MODEL = re.compile(r'"model"\s*:\s*"([^"\\]*)"')
"""The one way in which nearly every body names its model."""

RETRY_COUNT_HEADER = "x-stainless-retry-count"
"""In which SDKs made by Stainless (OpenAI's, Anthropic's and others) number their attempts."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""A key as it stands after its scheme (RFC 9110 section 11.2, ``token68``)."""

_SIGNER = re.compile(r'\b(username="|Credential=)([^"/,]+)')
"""Who signs, in ``Digest`` and in ``AWS4-HMAC-SHA256``: the rest is of one request."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+-]")
"""What a model's name may not bring into a partition, which is logged."""

_VERSION = re.compile(r"^[^?]*?/v[0-9][0-9a-z.]*(?=[/?]|$)")
"""A path up to its version: ``/v1``, ``/tenant-a/v1``, ``/api/paas/v4``."""

_ENDPOINT = re.compile(
    r"^[^?]*?(?=/(chat/completions|completions|embeddings|responses|messages|models|moderations)\b)"
)
"""Where there is no version, a path up to an endpoint; any other path says nothing of its base."""

_ASKED = re.compile(
    r"^[^?]*/(chat/completions|(deployments|engines)/[^/?]+/(completions|embeddings|responses)"
    r"|audio/(speech|transcriptions|translations)|images/(generations|edits|variations))/?(\?|$)"
)
"""Where a model is asked, whatever the body says: Azure's and others name it in the path."""

_ASKED_UNSEEN = re.compile(r"^[^?]*/(completions|embeddings|responses|moderations)/?(\?|$)")
"""Where one is asked by a body that is too long to look at; others have such paths, too.

``/messages`` is not among them, as much else than Anthropic's has one, and its codes are known.
"""


class RequestBody:
    """A request's body, decoded when it is asked for: most calls need to know the model only.

    Args:
        content: the body's bytes or text, or None where they cannot be looked at.
        method: the request's method, in upper case.
        path: the path that it is sent to.

    Attributes:
        text: the body as it is sent; empty where it cannot be looked at.

    State: per request.
    """

    __slots__ = ("_decoded", "_method", "_model", "_path", "_unseen", "text")

    def __init__(self, content: bytes | str | None, method: str, path: str) -> None:
        """Keep what is short enough to be looked at."""
        if isinstance(content, bytes):
            short = len(content) <= LONGEST_REQUEST
            content = content.decode("utf-8", "replace") if short else None
        self.text = content or ""
        self._unseen = content is None
        self._method, self._path = method, path
        self._decoded: Any = None
        self._model: str | None = None

    def __call__(self) -> Any:
        """Return the decoded body, or an empty dict where it is no JSON."""
        if self._decoded is None:
            found = decoded(self.text, LONGEST_REQUEST)
            self._decoded = {} if found is None else found
        return self._decoded

    def model(self) -> str:
        """Return the model that is asked for, safe to log, or an empty text."""
        if self._model is None:
            self._model = self._find_model()
        return self._model

    def may_ask_model(self) -> bool:
        """Whether a model may be asked: the body names it, or the endpoint is for that."""
        if self.model():
            return True
        if self._method != "POST":
            return False
        unseen = self._unseen and _ASKED_UNSEEN.match(self._path) is not None
        return unseen or _ASKED.match(self._path) is not None

    def _find_model(self) -> str:
        content = self.text
        if '"model"' not in content:
            return ""
        named = _MODEL.search(content)
        if named is not None and _is_outermost(content, named.start(), named.end()):
            return safe_model(named[1])
        body = self()  # rare: an escape in the name, or the same key among the tools
        return safe_model(body.get("model")) if isinstance(body, dict) else ""

    def asks_stream(self) -> bool:
        """Whether a stream is asked for."""
        body = self() if '"stream"' in self.text else None
        return isinstance(body, dict) and body.get("stream") is True

    def asks_several(self) -> bool:
        """Whether several choices are asked for: of one prompt, or one of each of several."""
        body = self() if '"n"' in self.text or '"prompt"' in self.text else None
        if not isinstance(body, dict):
            return False
        asked, prompt = body.get("n"), body.get("prompt")
        each = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
        return each or (isinstance(asked, int) and asked > 1)


def _is_outermost(content: str, start: int, end: int) -> bool:
    """Whether a field stands in the outermost object: the first one, or by what comes after it."""
    if start < 8 and content[:start].strip() == "{":
        return True
    rest = content[end:]
    if '"' in rest:
        rest = _STRING.sub("", rest)
    return rest.count("}") - rest.count("{") == 1 and rest.count("[") == rest.count("]")


def prepare_call(
    call: Call[Any], method: str, origin: str, path: str, headers: Headers, content: Any
) -> None:
    """Put the body on the call, and name its partition where `call_options` does not.

    Args:
        call: the call, not yet sent.
        method: the request's, in upper case.
        origin: the server, as ``host`` or ``host:port``.
        path: the URL's path, with or without a query.
        headers: the request's; their names are asked for in lower case.
        content: the body's bytes or text, or None where they cannot be looked at.
    """
    body = call.body = RequestBody(content, method, path)
    options = current_options()
    if options is None or options.partition is None:
        base, key = base_path(path), key_hash(_key_in(headers))
        call.partition = f"{origin}{base}/{body.model()}#{key}"


def _key_in(headers: Headers) -> str:
    for name in KEY_HEADERS:
        key = headers.get(name)
        if key:
            return key
    return ""


def safe_model(asked: Any) -> str:
    """Return a model's name, bounded and safe to log; an empty text for what is none."""
    return _safe(asked[:LONGEST_MODEL]) if isinstance(asked, str) else ""


@functools.lru_cache(maxsize=256)
def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def set_partition(call: Call[Any], partition: str) -> None:
    """Put the call into a partition, unless `call_options` names another."""
    options = current_options()
    if partition and (options is None or options.partition is None):
        call.partition = partition


@functools.lru_cache(maxsize=256)
def base_path(path: str) -> str:
    """Return the part of a path that belongs to the base URL: up to its version or endpoint."""
    base = _VERSION.match(path) or _ENDPOINT.match(path)
    return "" if base is None else _UNSAFE.sub("_", base[0])


@functools.lru_cache(maxsize=64)
def key_hash(key: str) -> str:
    """Return eight hexadecimal digits that stand for whose key it is, never for one request's.

    A token that is renewed by the hour (a JSON Web Token) has none, and a signature is left out.
    """
    head, gap, tail = key.strip().partition(" ")
    scheme, rest = (head.lower(), tail) if gap else ("", head)
    if rest.startswith("eyJ") and rest.count(".") >= 2:
        return "token"
    if not scheme or _TOKEN.fullmatch(rest):  # Bearer, Basic, Token, Key ...
        return _digits(rest)
    signer = _SIGNER.search(rest)
    return _UNSAFE.sub("_", scheme[:16]) if signer is None else _digits(signer[2])


def _digits(secret: str) -> str:
    if not secret:
        return ""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()[:8]


class NestedRetriesCheck:
    """Warns, once, that a client retries above the stack."""

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._told = False

    def check(self, headers: Headers) -> None:
        """Warn if the request is a retry of the SDK's own."""
        if not self._told and (headers.get(RETRY_COUNT_HEADER) or "0") != "0":
            self._told = True
            warn_of_nested_retries(
                "the SDK retries above the stack, so their attempts multiply: set max_retries=0 on "
                "its client, or give that client itself to wrap(client, stack), which does so"
            )


def warn_of_nested_retries(what: str) -> None:
    """Warn, and say what to set."""
    warnings.warn(what, NestedRetriesWarning, stacklevel=2)
