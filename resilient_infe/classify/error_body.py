"""How to recognise an error inside a body, and an object that only looks like one.

An API reports an error as ``{"error": {"message", "type", "code"}}``. Other servers put the same
fields elsewhere, or send the error inside a success. But objects that an API stores for its users
also have a field ``error``, which says how the job or response ended. Such an object is an answer:
if it were taken for a failure, the request would be sent again.

Sources: the Infe API reference; OpenAI's objects ``fine_tuning.job``, ``response`` and ``video``,
each with an ``error`` of its own; google.rpc's ``Status`` and ``ErrorInfo``; FastAPI's ``detail``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from ..core.ids import clean_id

NOT_STORED = frozenset(("embedding", "error", "list", "text_completion"))
"""Values of ``object`` whose objects have no field ``error`` of their own, like ``chat.*``."""

_CODES = ("code", "error_code", "errorCode")
_TYPES = ("type", "error_type", "__type", "status")
_STATUSES = ("status", "status_code", "statusCode", "http_status", "httpCode", "http_status_code",
             "httpStatus", "error")  # fmt: skip
_MESSAGES = ("message", "msg", "error_msg", "error_message", "detail")
_ANSWERS = ("choices", "data", "output", "result", "results", "content", "embeddings")
"""Fields of an answer: an object that has one of them is not an error for its ``code`` alone."""

_FINE = frozenset((0, 20_000, "0", "20000", "ok", "success", "succeeded"))
"""Values of a ``code`` that say that all is well, besides a status from 200 to 299."""

LARGEST_CODE = 10**9
"""A larger number is not a code."""

MOST_DETAILS = 16
"""Entries of a list of details that are looked at."""

MOST_FIELDS = 256
"""Fields of an object that are looked at."""

_JOINING = re.compile(r"[^a-z0-9]+")

_NESTED = ("response", "detail", "header", "fault", "err", "status")
"""Fields that may hold the object with the fields of an error, or with an `error` in it."""

_IDS = frozenset(("requestid", "traceid", "logid", "sid", "trace"))
"""Fields of an error that may hold the id of the request, by their plain names."""


class Stated(NamedTuple):
    """What an error says of itself in its structured fields.

    Attributes:
        code: its ``code``, or None if it has none that is safe to log.
        type: its ``type``, the same.
        status: the HTTP status that its code is, or None.
        names: all that may name the error, in lower case, the most exact first. A number that is
            not in a ``code`` has its field before it: ``base_resp:1008``.
    """

    code: str | None
    type: str | None
    status: int | None
    names: tuple[str, ...]


def stated_in(content: Any, header: str | None = None) -> Stated:
    """Return what an error's body says of itself.

    Args:
        content: the decoded body; anything.
        header: the type of the error in a header of its own, or None.
    """
    content = first_of(content)
    places = list(_places(content))
    found = [*_codes(content, places), *_statuses(places)]
    types = [*_types(places), *filter(None, [_type(header)])]
    names = [name for name, _, _ in found if name] + [*types, *_reasons(places)]
    return Stated(
        next((code for _, code, _ in found if code), None),
        next(iter(types), None),
        next((status for _, _, status in found if status), None),
        tuple(dict.fromkeys(name.lower() for name in names)),
    )


def error_fields(content: Any) -> tuple[str | None, str | None]:
    """Return the ``code`` and the ``type`` of an error body, each None if it is not safe to log."""
    stated = stated_in(content)
    return stated.code, stated.type


def first_of(content: Any) -> Any:
    """Return the first element of a list with an error, which a gateway may send; else as it is."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return content[0]
    return content


def error_object(content: Any) -> dict[Any, Any]:
    """Return the object in a body whose fields describe the error; it may be the body itself."""
    return next(iter(_places(first_of(content))), {})


def message_in(content: Any) -> str | None:
    """Return the message of an error, for people: it decides nothing."""
    content = first_of(content)
    base = content.get("base_resp") if isinstance(content, dict) else None
    found = [place.get(name) for place in _places(content) for name in (*_MESSAGES, "error")]
    found.append(base.get("status_msg") if isinstance(base, dict) else None)
    return next((each for each in found if isinstance(each, str) and each), None)


def id_in(content: Any) -> str | None:
    """Return the id of the request that the body of an error names, if it is safe to log."""
    for place in _places(first_of(content)):
        details, metadata = place.get("details"), place.get("metadata")
        listed = details[:MOST_DETAILS] if isinstance(details, list) else ()
        for each in (place, metadata, *listed):
            fields = islice(each.items(), MOST_FIELDS) if isinstance(each, dict) else ()
            for name, value in fields:
                found = clean_id(value) if plain_name(name) in _IDS else None
                if found is not None:
                    return found
    return None


def plain_name(name: object) -> str:
    """Return the letters and digits of a name, in small letters: vendors join words as they like.

    So ``insufficient_quota``, ``insufficient-quota`` and ``InsufficientQuota`` are one name.
    """
    return _JOINING.sub("", name.lower()) if isinstance(name, str) else ""


def error_in_event(content: Any) -> dict[str, Any] | None:
    """Return the error that an event of a stream reports, as the body of an error, or None.

    There are five places for it. The first that has one decides:

    1. ``error`` in the event, also beside ``choices``.
    2. The event itself, if its ``object`` or ``type`` is ``error`` (vLLM, OpenAI's responses).
    3. ``error`` in the ``response`` of the event, if the response has failed.
    4. ``error`` in a choice, or a choice whose ``finish_reason`` is ``error`` (OpenRouter).
    5. A code beside the answer: ``error_code``, ``base_resp``.

    Args:
        content: the decoded data of the event.
    """
    if not isinstance(content, dict):
        return None
    places = [content]
    if "error" in (content.get("object"), content.get("type")):
        places.append({"error": content})
    response, choices = content.get("response"), content.get("choices")
    if isinstance(response, dict) and response.get("status") == "failed":
        places.append(response)
    if isinstance(choices, list):
        places += [choice for choice in choices if isinstance(choice, dict)]
    for place in places:
        error = place.get("error")
        if error and isinstance(error, dict | str):
            return {"error": error}
    if any(place.get("finish_reason") == "error" for place in places) or _has_code(content):
        return content
    return None


def status_in(code: object) -> int | None:
    """Return the HTTP status that the ``code`` of an error is, or None if it is not one.

    Args:
        code: the code; a gateway may send a status as a number or as text.
    """
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
        code = int(code)
    if isinstance(code, int) and not isinstance(code, bool) and 100 <= code < 600:
        return code
    return None


def is_error(content: dict[str, Any]) -> bool:
    """Whether an object is an error in place of an answer, not an answer with a field ``error``.

    Args:
        content: the decoded body of a success.
    """
    # There are four cases:
    # 1. A completion: an error if one of its choices is one, or if an error stands beside them.
    #    An error whose fields are all empty is none here.
    # 2. An `error`, or an object that calls itself one: an error. But an object that the API stores
    #    is an answer, unless objects of that name have no `error` of their own.
    # 3. A code that is not that of a success, and no answer: an error.
    # 4. Anything else: an answer.
    choices = content.get("choices")
    if choices and type(choices) is list:
        for choice in choices:
            if type(choice) is dict and (
                choice.get("finish_reason") == "error"
                or ("error" in choice and _tells(choice["error"]))
            ):
                return True
        if "base_resp" not in content and not ("error" in content and _tells(content["error"])):
            return False
    if content.get("error"):
        return not _is_stored(content)
    if content.get("object") == "error" or content.get("type") == "error":
        return True
    return _has_code(content)


def _tells(error: Any) -> bool:
    """Whether an error beside an answer says anything, and not only has empty fields."""
    return bool(error) and (not isinstance(error, dict) or any(error.values()))


def _is_stored(content: dict[str, Any]) -> bool:
    named, kept_as = content.get("object"), content.get("id")
    if not (isinstance(named, str) and named and isinstance(kept_as, str) and kept_as):
        return False
    return not (named in NOT_STORED or named.startswith("chat."))


def _has_code(content: dict[str, Any]) -> bool:
    """Whether a code says that the request failed, beside an answer that is missing or empty."""
    if any(_base_resp(content)):
        return True
    if any(content.get(field) for field in _ANSWERS):
        return False
    if content.get("error_code") and not _is_fine(content["error_code"]):
        return True
    says = any(isinstance(content.get(field), str) for field in _MESSAGES)
    if content.get("success") is False:
        return says or bool(content.get("errors"))
    code = content.get("code")
    return says and bool(code) and isinstance(code, int | str) and not _is_fine(code)


def _is_fine(code: Any) -> bool:
    if isinstance(code, bool) or not isinstance(code, int | str):
        return True
    status = status_in(code)
    return 200 <= status < 300 if status is not None else _lower(code) in _FINE


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _places(content: Any) -> Iterator[dict[Any, Any]]:
    """Yield the objects of a body that may hold the fields of an error, the best first."""
    if not isinstance(content, dict):
        return
    content = _camel(content)
    errors, choices = content.get("errors"), content.get("choices")
    error = _camel(first_of(content.get("error")))
    found = [error.get("error"), error] if isinstance(error, dict) else []
    if isinstance(choices, list):
        found += [each.get("error") for each in choices if isinstance(each, dict)]
    for name in _NESTED:
        nested = _camel(content.get(name))
        if isinstance(nested, dict):
            found += [nested.get("error"), None if name == "response" else nested]
    if isinstance(errors, list):
        found += errors[:1]
    yield from (_camel(each) for each in found if isinstance(each, dict))
    yield content


def _camel(place: Any) -> Any:
    """Return an object with a small letter at the start of each name, as AWS and others do not."""
    if not isinstance(place, dict):
        return place
    upper = [
        name for name in islice(place, MOST_FIELDS) if type(name) is str and name[:1].isupper()
    ]
    return {name[:1].lower() + name[1:]: place[name] for name in upper} | place if upper else place


def _codes(
    content: Any, places: list[dict[Any, Any]]
) -> Iterator[tuple[str | None, str | None, int | None]]:
    """Yield each code of an error as a name, as text, and as an HTTP status."""
    for place in places:
        if isinstance(place.get("error"), str):
            code = clean_id(place["error"])
            yield code, code, None
        for field in _CODES:
            value = place.get(field)
            if value is None:
                continue
            code = _code(value)
            name = code
            if field != "code" and type(value) is int and abs(value) < LARGEST_CODE:
                name = f"{field}:{value}"
            yield name, code, status_in(value)
    for number in _base_resp(content):
        yield f"base_resp:{number}", number, None


def _statuses(places: list[dict[Any, Any]]) -> Iterator[tuple[None, None, int]]:
    """Yield each HTTP status that an error states beside its code, in the form of a code."""
    for place in places:
        for field in _STATUSES:
            status = status_in(place.get(field))
            if status is not None and status >= 400:
                yield None, None, status


def _types(places: list[dict[Any, Any]]) -> Iterator[str]:
    """Yield each type of an error."""
    for place in places:
        for field in _TYPES:
            found = _type(place.get(field))
            if found is not None and not (field == "status" and place is places[-1]):
                yield found


def _code(value: Any) -> str | None:
    """Return a code as text if it is safe to log; a number that is an HTTP status is not a code."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = None if status_in(value) is not None or abs(value) > LARGEST_CODE else str(value)
    return clean_id(value)


def _type(value: Any) -> str | None:
    """Return a type as text, without what AWS puts before ``#`` and behind ``:``."""
    if not isinstance(value, str) or value in ("error", "None", "null"):
        return None
    return clean_id(value.rpartition("#")[2].partition(":")[0])


def _base_resp(content: Any) -> Iterator[str]:
    """Yield the code of a ``base_resp`` that is not that of a success."""
    base = content.get("base_resp") if isinstance(content, dict) else None
    code = _code(base.get("status_code")) if isinstance(base, dict) else None
    if code is not None and code != "0":
        yield code


def _reasons(places: list[dict[Any, Any]]) -> Iterator[str]:
    """Yield what the details of an error name as its reason."""
    error = places[0] if places else {}
    listed = [
        each for each in (error.get("details"), error.get("errors")) if isinstance(each, list)
    ]
    for each in (error, *(detail for details in listed for detail in details[:MOST_DETAILS])):
        reason = _type(each.get("reason")) if isinstance(each, dict) else None
        if reason is not None:
            yield reason
