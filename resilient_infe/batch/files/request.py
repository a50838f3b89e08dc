"""From a line to a request: OpenAI's Batch form, just a body, or just a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import RowError
from .lines import LONGEST, NumberedLine

CHAT = "/v1/chat/completions"

ONE_OF = ("messages", "input", "prompt")
"""Every body has one of these fields."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What lines leave open.

    Attributes:
        model: for bodies that name none; None if each must.
        url: for lines that name none.
    """

    model: str | None = None
    url: str = CHAT


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        custom_id: of the line, or made from its number.
        line: its number in the input, from 1.
        url: the endpoint, like ``/v1/chat/completions``.
        body: what is sent.
    """

    custom_id: str
    line: int
    url: str
    body: Mapping[str, Any]


def payload_of(request: Request) -> dict[str, Any]:
    """Return what is sent for a request."""
    return {"url": request.url, "body": request.body}


def parsed(line: NumberedLine, defaults: Defaults) -> Request:
    """Return the request that a line asks for.

    Raises:
        RowError: none; the message begins with the line's number and says what is wrong.
    """
    try:
        return _request(_value(line), line.number, defaults)
    except RowError as error:
        raise RowError(f"line {line.number}: {error}", line.number) from None


def _value(line: NumberedLine) -> Any:
    if line.content is None:
        raise RowError(f"it is longer than {LONGEST // 2**20} MiB: is a line break missing?")
    try:
        return json.loads(line.content.decode())
    except UnicodeDecodeError as error:
        raise RowError(f"it is not UTF-8 at byte {error.start + 1}") from None
    except RecursionError:
        raise RowError("its JSON is nested too deeply") from None
    except ValueError as error:
        told = getattr(error, "msg", str(error))
        raise RowError(
            f"it is not JSON: {told} at character {getattr(error, 'pos', 0) + 1}"
        ) from None


def _request(value: Any, number: int, defaults: Defaults) -> Request:
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        raise RowError(f"it is {_named(value)}, not an object or a text")
    custom_id = value.pop("custom_id", None)
    if custom_id is None:
        custom_id = f"line-{number}"
    elif not isinstance(custom_id, str) or not custom_id:
        raise RowError(f"`custom_id` is {_named(custom_id)}, not a text")
    is_batch_form = "body" in value or "method" in value or "url" in value
    url, body = _of_batch_form(value, defaults) if is_batch_form else (defaults.url, value)
    return Request(custom_id, number, url, _body(body, url, defaults))


def _of_batch_form(value: dict[str, Any], defaults: Defaults) -> tuple[str, Any]:
    if "body" not in value:
        raise RowError("`body` is missing")
    method, url = value.get("method", "POST"), value.get("url", defaults.url)
    if method != "POST":
        raise RowError(f"`method` is {method!r}: only POST is sent")
    if not isinstance(url, str) or not url.startswith("/") or url.startswith("//"):
        raise RowError(f"`url` is {url!r}: give a path like {CHAT}; --base-url says where")
    return url, value["body"]


def _body(given: Any, url: str, defaults: Defaults) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise RowError(f"`body` is {_named(given)}, not an object")
    body: dict[str, Any] = given
    if url.endswith("/chat/completions"):
        body = _as_chat(body)
    elif not any(name in body for name in ONE_OF):
        raise RowError("the body has none of `messages`, `input` and `prompt`")
    if body.get("stream"):
        raise RowError("`stream` is on: a file holds whole replies, so leave it out")
    if "model" not in body and defaults.model is not None:
        body = {"model": defaults.model} | body
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise RowError("it names no `model`: add it, or give --model infe-pulse")
    return body


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a chat, made of a bare prompt if need be."""
    if "messages" in body:
        if not isinstance(body["messages"], list) or not body["messages"]:
            raise RowError("`messages` is not a list with something in it")
        return body
    prompt = body.get("prompt")
    if prompt is None:
        raise RowError("it has neither `messages` nor `prompt`")
    if not isinstance(prompt, str):
        raise RowError(f"`prompt` is {_named(prompt)}, not a text")
    rest = {name: each for name, each in body.items() if name != "prompt"}
    return rest | {"messages": [{"role": "user", "content": prompt}]}


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
