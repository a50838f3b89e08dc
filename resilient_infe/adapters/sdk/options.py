"""What the stack needs of an SDK's request before the SDK has built it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...core.call import Call
from ...core.ids import model_in
from ..http.partition import Partitions, model_in_path
from ..http.request import RequestBody


def prepare(call: Call[Any], client: Any, options: Any, partitions: Partitions) -> None:
    """Set the call's body, and its partition unless `call_options` sets one.

    Args:
        call: the call, not yet sent.
        client: the SDK's client.
        options: its options of the request.
        partitions: finds the partition. The user's function takes the body of the request, as
            ``estimate=`` does.
    """
    url, fields = client._prepare_url(options.url), options.json_data  # noqa: SLF001
    path = url.raw_path.decode("ascii")
    body = call.body = _body(options, options.method.upper(), path)
    in_form = model_in(fields) if options.files else None  # the body of a form is not JSON
    model = body.model() or in_form or model_in_path(path)
    partitions.place(call, lambda: fields if in_form else body(), model)


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

    @property
    def moves(self) -> bool:
        """Whether to send the body moves a position in it, so that only one attempt can."""
        return not self._whole or bool(self._starts)

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
