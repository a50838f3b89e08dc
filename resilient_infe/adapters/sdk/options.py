"""What the stack needs of an SDK's request before the SDK has built it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...core.call import Call
from ..http.request import KEY_HEADERS, RequestBody, key_hash, place_call, safe_model

RENEWED = (
    "_api_key_provider",
    "_azure_ad_token_provider",
    "_custom_auth",
    "_provider_runtime",
    "_workload_identity_auth",
)
"""Attributes of clients whose credentials change by themselves."""

OF_DEPLOYMENTS = frozenset(
    (
        "/audio/speech",
        "/audio/transcriptions",
        "/audio/translations",
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/images/edits",
        "/images/generations",
    )
)
"""Paths to which Azure's client adds the deployment, which is the model."""

STATIC = ("_azure_ad_token", "api_key", "auth_token")
"""Attributes of clients that hold a key, the one that is used first."""


def prepare(call: Call[Any], client: Any, options: Any) -> None:
    """Set the call's body, and its partition unless `call_options` sets one.

    Args:
        call: the call, not yet sent.
        client: the SDK's client.
        options: its options of the request.
    """
    url, method = client._prepare_url(options.url), options.method.upper()  # noqa: SLF001
    path, origin = url.raw_path.decode("ascii"), url.netloc.decode("ascii")
    body = _body(options, method, path)
    if options.url in OF_DEPLOYMENTS and hasattr(client, "_azure_endpoint"):
        base, fields = path.removesuffix(options.url), options.json_data
        model = safe_model(fields.get("model")) if isinstance(fields, Mapping) else ""
        if model and "/deployments" not in base:
            path = f"{base}/deployments/{model}{options.url}"
    place_call(call, body, origin, path, _key(client, options))


def _body(options: Any, method: str, path: str) -> RequestBody:
    content = getattr(options, "content", None)
    fields, more = options.json_data, getattr(options, "extra_json", None)
    if content is not None or options.files or method == "GET":
        known = b"" if method == "GET" else content
        return RequestBody(known if isinstance(known, bytes | str) else None, method, path)
    if isinstance(fields, bytes):
        return RequestBody(fields, method, path)
    if isinstance(more, Mapping) and (fields is None or isinstance(fields, Mapping)):
        fields = {**(fields or {}), **more}
    return RequestBody.of_decoded(fields, method, path)


def _key(client: Any, options: Any) -> str:
    """Return a hash of the API key, as `key_hash` does; "token" if it changes by itself."""
    for headers in (options.headers, getattr(client, "_custom_headers", None)):
        if isinstance(headers, Mapping):
            for name, value in headers.items():
                if name.lower() in KEY_HEADERS and isinstance(value, str):
                    return key_hash(value)
    attributes = vars(client)
    if any(attributes.get(name) is not None for name in RENEWED):
        return "token"
    for name in STATIC:
        value = attributes.get(name)
        if value and isinstance(value, str):
            return key_hash(value)
    return ""


class Rewind:
    """Brings the body of a request back to its start, so that it can be sent again.

    Args:
        options: the SDK's options of the request, as it builds the request from them.

    State: the positions at which the files of one request began.
    """

    def __init__(self, options: Any) -> None:
        self._starts: list[tuple[Any, int]] = []
        contents = (getattr(options, "content", None), *_files(options.files))
        self._whole = all(list(map(self._note, contents)))

    @property
    def possible(self) -> bool:
        """Whether all of the body can be read again. An iterator cannot, nor can a closed file."""
        return self._whole and not any(getattr(file, "closed", False) for file, _ in self._starts)

    def __call__(self) -> None:
        """Move each file back to its start."""
        for file, start in self._starts:
            file.seek(start)

    def _note(self, content: Any) -> bool:
        if content is None or isinstance(content, bytes | bytearray | str | list | tuple):
            return True
        try:
            if not content.seekable():
                return False
            self._starts.append((content, content.tell()))
        except Exception:  # it is not a file, or one that is closed
            return False
        return True


def _files(files: Any) -> Iterator[Any]:
    entries = files.items() if isinstance(files, Mapping) else files or ()
    for _, file in entries:
        yield file[1] if isinstance(file, tuple) and len(file) > 1 else file
