"""A request with another body: for another model, or with what a hook made of its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...core.call import Call
from .synthetic import library_of


def renewed(call: Call[Any]) -> Any:
    """Return the httpx request of a call's next attempt.

    It is the call's own, or a copy with another body. A request whose body is not a JSON object, or
    has no ``model`` to be replaced, is returned itself: it names its model in its path, or none.
    """
    request, model, refused = call.payload, call.state.model, call.state.refused
    fields = None if refused is None else refused.request
    if model is None and fields is None:
        return request
    body: Any = fields
    if body is None:
        try:
            body = json.loads(request.content)
        except Exception:  # it is not JSON; or RequestNotRead, of which each library has its own
            return request
    if not isinstance(body, Mapping):
        return request
    if model is not None and "model" in body:
        body = {**body, "model": model}
    elif fields is None:
        return request
    headers = [
        pair
        for pair in request.headers.raw
        if pair[0].lower() not in (b"content-length", b"transfer-encoding")
    ]
    return library_of(request.__class__).Request(
        request.method,
        request.url,
        headers=headers,
        content=json.dumps(body).encode(),
        extensions=request.extensions,
    )
