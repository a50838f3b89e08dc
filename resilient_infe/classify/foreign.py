"""Reads replies from the results and exceptions of clients that the library does not know.

An SDK's typed error, ``httpx.Response``, ``aiohttp.ClientResponseError``: they differ only in the
names of their attributes. An object that looks like an HTTP response (it has a status and headers)
is read as one. So a plain ``async def`` around any client is classified without an adapter.
"""

from __future__ import annotations

from typing import Any

from ..core.call import Reply

_NONE: Any = object()

_PLAIN = (dict, list, str, bytes, int, float, bool, type(None), tuple)


def reply_of_result(result: Any) -> Reply | None:
    """Return a result as a reply if it looks like an HTTP response, else None."""
    if isinstance(result, _PLAIN):
        return None
    try:
        status = _status(result)
        headers: Any = getattr(result, "headers", None)
        readable = status is not None and hasattr(headers, "get")
    except Exception:  # a foreign object's properties may raise anything
        return None
    return Reply(status, headers) if status is not None and readable else None


def completion_in(result: Any) -> Any:
    """Return the content of an SDK's completion that is not whole, else None.

    Its list of choices is missing or empty, or one of them ended in an error.
    """
    try:
        choices = getattr(result, "choices", _NONE)
        if choices is _NONE:
            return None
        if choices and not any(each.finish_reason == "error" or _error(each) for each in choices):
            return None if _error(result) is None else result.model_dump()
        return result.model_dump()
    except Exception:  # a foreign object's properties may raise anything
        return None


def _error(subject: Any) -> Any:
    return getattr(subject, "error", None)


def reply_of_exception(error: BaseException) -> Reply | None:
    """Return the reply that an exception carries, or None."""
    try:
        response = getattr(error, "response", None)
        status = _status(error)
        status = _status(response) if status is None and response is not None else status
        if status is None:
            return None
        headers: Any = getattr(response, "headers", None) or getattr(error, "headers", None)
        if headers is None:
            headers = _stated(error)
        return Reply(status, headers if hasattr(headers, "get") else {}, _body(error))
    except Exception:  # a foreign object's properties may raise anything
        return None


def _status(subject: Any) -> int | None:
    for name in ("status_code", "status"):
        value = getattr(subject, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
            return int(value)
    return None


def _stated(error: BaseException) -> dict[str, str]:
    """Return as headers the fields that one of the library's own typed errors took from them."""
    hint, request_id = getattr(error, "retry_after", None), getattr(error, "request_id", None)
    headers = {}
    if isinstance(hint, int | float) and 0 < hint < 1e9:
        headers["retry-after"] = f"{hint:.6f}"
    if isinstance(request_id, str):
        headers["x-request-id"] = request_id
    return headers


def _body(error: BaseException) -> Any:
    """Return the body as OpenAI's SDK keeps it: the inner error object, or its code and type."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        return body if "error" in body else {"error": body}
    # Read only the instance: the class may have a deprecated property of that name (aiohttp does).
    fields = getattr(error, "__dict__", {})
    code, kind = fields.get("code"), fields.get("type")
    return {"error": {"code": code, "type": kind}} if code or kind else None
