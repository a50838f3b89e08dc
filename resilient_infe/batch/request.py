"""From a row to a request: OpenAI's Batch form, just a body, or just a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..adapters.http.masking import printable
from ..errors import RowError
from .forms import foreign_row, named

CHAT = "/v1/chat/completions"

LONGEST = 16 * 1024 * 1024
"""Bytes of a line by default; a request with some images fits, a file without line breaks does not.
"""

PROMPT = "prompt"
"""The column of a table, and the field of an object, that is a prompt unless another is named."""

NAMES_IT = "--prompt-column; Python: request="
"""How to say which field is the prompt."""

TAKES_INPUT = ("/embeddings", "/responses", "/moderations")
"""The ends of URLs whose bodies have a text as `input`."""

ONE_OF = ("messages", "input", "prompt")
"""Every body has one of these fields."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """How rows are read, and what they leave open.

    Attributes:
        model: for bodies that name none; None if each must.
        url: for lines that name none.
        prompt_column: the column, or the field, that holds the prompt; the others are then not
            sent. None for ``prompt`` in a table, and for rows that are requests elsewhere.
        id_column: the column, or the field, that holds the id; None for ``custom_id``.
        longest: bytes of a line, or characters of a row in a table or an array.
        checked: whether the same bytes were read before without an error, so that JSON lines are
            not looked at for keys that stand twice, NaN and depth once more.
    """

    model: str | None = None
    url: str = CHAT
    prompt_column: str | None = None
    id_column: str | None = None
    longest: int = LONGEST
    checked: bool = False

    @property
    def names_columns(self) -> bool:
        """Whether a column is named."""
        return self.prompt_column is not None or self.id_column is not None


class Request(NamedTuple):
    """One request.

    Attributes:
        custom_id: of the line, or made from its number.
        line: its number in the input, from 1.
        url: the endpoint, like ``/v1/chat/completions``.
        body: what is sent.
        word: what `line` counts: lines, or rows.
    """

    custom_id: str
    line: int
    url: str
    body: Mapping[str, Any]
    word: str = "line"

    @property
    def place(self) -> str:
        """Where it is in the input, like ``line 17``."""
        return f"{self.word} {self.line}"


def payload_of(request: Request) -> dict[str, Any]:
    """Return what is sent for a request."""
    return {"url": request.url, "body": request.body}


def request_of(value: Any, made_id: str, number: int, defaults: Defaults) -> Request:
    """Return the request that a row asks for.

    Args:
        value: the row: a text, or an object of one of the forms. An object is changed.
        made_id: the id of a row that has none.
        number: of the row, or of its line, from 1.
        defaults: how it is read, and what it leaves open.

    Raises:
        RowError: it is not a request; the message says what is wrong.
    """
    is_bare = isinstance(value, str)
    if is_bare:
        value = {PROMPT: value}
    elif isinstance(value, dict) and defaults.names_columns:
        value = _of_columns(value, defaults)
        is_bare = defaults.prompt_column is not None
    if not isinstance(value, dict):
        raise RowError(f"it is {_named(value)}, not an object or a text")
    foreign = foreign_row(value)
    if foreign is not None:
        raise RowError(foreign)
    custom_id = value.pop("custom_id", None)
    custom_id = made_id if custom_id is None else _checked_id(custom_id)
    url, body = defaults.url, value
    if "body" in value or "method" in value or "url" in value:
        url, body = _of_batch_form(value, defaults)
    if is_bare and url.endswith(TAKES_INPUT):
        body = {"input": _checked_prompt(body[PROMPT])}
    word = "line" if made_id.startswith("line") else "row"
    return Request(custom_id, number, url, _body(body, url, defaults), word)


def _of_columns(value: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Return an object with the named fields where they are looked for."""
    for wanted in (defaults.prompt_column, defaults.id_column):
        if wanted is not None and wanted not in value:
            raise RowError(f"it has no field {wanted!r}; its fields are {named(value)}")
    row_id = value.get("custom_id")
    if defaults.id_column is not None:
        row_id = value.pop(defaults.id_column)
        row_id = str(row_id) if type(row_id) is int else row_id
    if defaults.prompt_column == defaults.id_column:
        return {PROMPT: row_id, "custom_id": row_id}
    rest = value if defaults.prompt_column is None else {PROMPT: value[defaults.prompt_column]}
    return rest | {"custom_id": row_id}


def _checked_id(custom_id: Any) -> str:
    if not isinstance(custom_id, str):
        raise RowError(f"`custom_id` is {_named(custom_id)}, not a text: put it in quotes")
    if not custom_id:
        raise RowError("`custom_id` is empty: leave it out, and the row's number is its id")
    if not custom_id.isascii():
        _check_unicode(custom_id, "`custom_id`")
    return custom_id


def _check_unicode(text: str, name: str) -> None:
    if any("\ud800" <= each <= "\udfff" for each in text):
        raise RowError(f"{name} has half a character in it (a lone surrogate): take it out")


def _of_batch_form(value: dict[str, Any], defaults: Defaults) -> tuple[str, Any]:
    if "body" not in value:
        raise RowError("`body` is missing")
    method, url = value.get("method", "POST"), value.get("url", defaults.url)
    if method != "POST":
        raise RowError(f"`method` is {_shown(method)}: only POST is sent")
    if url == CHAT:  # nearly always
        return url, value["body"]
    if not isinstance(url, str) or not url.startswith("/") or url.startswith("//"):
        raise RowError(f"`url` is {_shown(url)}: give a path like {CHAT}; --base-url says where")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise RowError(f"`url` is {_shown(url)}: it has a blank, or a character outside of ASCII")
    return url, value["body"]


def _body(given: Any, url: str, defaults: Defaults) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise RowError(f"`body` is {_named(given)}, not an object")
    body: dict[str, Any] = given
    if url == CHAT or url.endswith("/chat/completions"):
        body = _as_chat(body)
    elif not any(name in body for name in ONE_OF):
        raise RowError("the body has none of `messages`, `input` and `prompt`")
    if body.get("stream"):
        raise RowError("`stream` is on: a file holds whole replies, so leave it out")
    model = body.get("model")
    if model is None and defaults.model is not None and "model" not in body:
        model, body = defaults.model, {"model": defaults.model} | body
    if not isinstance(model, str) or not model:
        raise RowError("it names no `model`: add it, or give --model infe-pulse (Python: model=)")
    if not model.isascii():
        _check_unicode(model, "`model`")
    return body


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a chat, made of a bare prompt if need be."""
    if "messages" in body:
        messages = body["messages"]
        if not isinstance(messages, list) or not messages:
            raise RowError("`messages` is not a list with something in it")
        return body
    prompt = body.get(PROMPT)
    if prompt is None:
        fields = f"; its fields are {named(body)}: name the prompt ({NAMES_IT})" if body else ""
        raise RowError(f"it has neither `messages` nor `prompt`{fields}")
    rest = {name: each for name, each in body.items() if name != PROMPT}
    return rest | {"messages": [{"role": "user", "content": _checked_prompt(prompt)}]}


def _checked_prompt(prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise RowError(f"`prompt` is {_named(prompt)}, not a text")
    return prompt


def _shown(value: Any) -> str:
    return printable(repr(value))[:100]


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
