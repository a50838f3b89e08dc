"""A request for another model: the same one, with another ``model`` in its JSON body."""

from __future__ import annotations

import json
from typing import Any

from .synthetic import library_of


def with_model(request: Any, model: str) -> Any:
    """Return a copy of an httpx request that asks another model.

    A request whose body is not a JSON object with a ``model`` is returned itself: it names its
    model in its path, or none.

    Args:
        request: a request whose body is in memory.
        model: the name of the model.
    """
    try:
        body = json.loads(request.content)
    except Exception:  # it is not JSON; or RequestNotRead, of which each library has its own
        return request
    if not isinstance(body, dict) or "model" not in body:
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
        content=json.dumps({**body, "model": model}).encode(),
        extensions=request.extensions,
    )
