"""How to recognise an error inside a body, and an object that only looks like one.

An API reports an error as ``{"error": {"message", "type", "code"}}``. But objects that it stores
for its users also have a field ``error``, which says how the job or response ended. Such an object
is an answer: if it were taken for a failure, the request would be sent again.

Sources: the Infe API reference; OpenAI's objects ``fine_tuning.job``, ``response`` and ``video``,
each with an ``error`` of its own.
"""

from __future__ import annotations

from typing import Any

from ..core.ids import clean_id

NOT_STORED = frozenset(("embedding", "error", "list", "text_completion"))
"""Values of ``object`` whose objects have no field ``error`` of their own, like ``chat.*``."""


def error_fields(content: Any) -> tuple[str | None, str | None]:
    """Return the ``code`` and the ``type`` of an error body, each None if it is not safe to log."""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, str):
        return clean_id(error), None
    if not isinstance(error, dict):
        return None, None
    return clean_id(error.get("code")), clean_id(error.get("type"))


def error_in_event(content: Any) -> dict[str, Any] | None:
    """Return the error that an event of a stream reports, as ``{"error": ...}``, or None.

    There are four places for it. The first that has one decides:

    1. ``error`` in the event, also beside ``choices``.
    2. The event itself, if its ``object`` or ``type`` is ``error`` (vLLM, OpenAI's responses).
    3. ``error`` in the ``response`` of the event, if the response has failed.
    4. ``error`` in a choice (OpenRouter).

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


def stated_status(content: Any) -> int | None:
    """Return the HTTP status that an error body states as its ``code``, or None."""
    error = content.get("error") if isinstance(content, dict) else None
    return status_in(error.get("code")) if isinstance(error, dict) else None


def is_error(content: dict[str, Any]) -> bool:
    """Whether an object is an error in place of an answer, not an answer with a field ``error``.

    Args:
        content: the decoded body of a success.
    """
    # There are three cases:
    # 1. No error, or a completion: an answer.
    # 2. No name in `object` or no `id`, so it is not a stored object: an error.
    # 3. A stored object: an answer, unless objects of that name have no `error` of their own.
    if not content.get("error") or "choices" in content:
        return False
    named, kept_as = content.get("object"), content.get("id")
    if not (isinstance(named, str) and named and isinstance(kept_as, str) and kept_as):
        return True
    return named in NOT_STORED or named.startswith("chat.")
