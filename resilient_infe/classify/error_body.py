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
