"""What an error looks like inside a body, and what only looks like one.

An API tells of an error as ``{"error": {"message", "type", "code"}}``. But what it keeps for its
users has a field of that name too, which says how a job or a response of theirs ended: that is an
answer, and to take it for a failure would send the request again.

Sources: the Infe API reference; OpenAI's objects ``fine_tuning.job``, ``response`` and ``video``,
each with an ``error`` of its own.
"""

from __future__ import annotations

from typing import Any

from ..core.ids import clean_id

NO_RESOURCES = frozenset(("embedding", "error", "list", "text_completion"))
"""What may stand in ``object`` beside an error, as ``chat...`` may: none has one of its own."""


def error_fields(content: Any) -> tuple[str | None, str | None]:
    """Return the ``code`` and ``type`` of an error body, where they are safe to log."""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, str):
        return clean_id(error), None
    if not isinstance(error, dict):
        return None, None
    return clean_id(error.get("code")), clean_id(error.get("type"))


def is_error(content: dict[str, Any]) -> bool:
    """Whether an object is an error in an answer's place, and no answer with a field `error`.

    Args:
        content: the decoded body of a success.
    """
    if not content.get("error") or "choices" in content:
        return False
    named, kept_as = content.get("object"), content.get("id")
    if not (isinstance(named, str) and named and isinstance(kept_as, str) and kept_as):
        return True
    return named in NO_RESOURCES or named.startswith("chat.")
