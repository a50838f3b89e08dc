"""The requests and responses of ``/v1/embeddings``: many texts in one, an index for each vector."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ..core import bounds
from ..errors import ConfigurationError, InvalidRequestError, MalformedAnswer

PATH = "/embeddings"
"""The path of the endpoint."""

Input: TypeAlias = str | Sequence[int]
"""A text, or its token ids."""

Embedding: TypeAlias = list[float]
"""A vector; a text if ``encoding_format="base64"`` is asked for without an SDK."""


def sender_of(target: Any) -> Callable[[Any], Awaitable[Any]]:
    """Return a function that sends the body of a request for embeddings.

    Args:
        target: a client with ``embeddings.create``, or a function of one payload.

    Raises:
        ConfigurationError: it sends to another endpoint.
    """
    create = getattr(getattr(target, "embeddings", None), "create", None)
    if create is not None:
        return lambda body: create(**body)
    path = getattr(target, "posts_bodies_to", None)
    if path is not None and not path.rstrip("/").endswith(PATH):
        raise ConfigurationError(
            f"this transport posts to {path}: make InfeTransport(path={PATH!r}) for embeddings"
        )
    found: Callable[[Any], Awaitable[Any]] = target
    return found


def joined(model: str, fields: Mapping[str, Any], items: list[Any]) -> dict[str, Any]:
    """Return the body of a request for the embeddings of some texts.

    Raises:
        InvalidRequestError: one of them is neither a text nor a list of token ids.
    """
    for item in items:
        if not isinstance(item, str | list | tuple):
            raise InvalidRequestError(
                f"an embedding is of a text or of a list of token ids; got {bounds.shown(item)}"
            )
    return {**fields, "model": model, "input": items}


def parted(response: Any) -> list[Any]:
    """Return the vectors in a response, by their index.

    Args:
        response: the decoded body, or an SDK's object.

    Raises:
        MalformedAnswer: it has no list of vectors with indices from 0.
    """
    data = _field(response, "data")
    if not isinstance(data, list):
        raise MalformedAnswer("the response has no list `data`", response)
    found: dict[int, Any] = {}
    for place, each in enumerate(data):
        index = _field(each, "index")
        found[index if isinstance(index, int) else place] = _field(each, "embedding")
    if set(found) != set(range(len(data))) or None in found.values():
        raise MalformedAnswer("the response lacks a vector, or has one twice", response)
    return [found[index] for index in range(len(data))]


def _field(subject: Any, name: str) -> Any:
    return subject.get(name) if isinstance(subject, Mapping) else getattr(subject, name, None)
