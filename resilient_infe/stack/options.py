"""Per-call values for code that cannot pass them as arguments.

A wrapped client keeps its own signature, so ``tokens``, ``partition`` and their like travel beside
it, in a context variable: they reach the calls made inside the ``with`` block, in this task and
those it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..core import bounds
from ..core.call import Call
from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What can be said about a call; None leaves it open."""

    tokens: float | None = None
    partition: str | None = None
    request_id: str | None = None
    deadline: float | None = None
    tags: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_options(self.tokens, self.partition, self.deadline)

    def fill(self, call: Call[Any]) -> None:
        """Fill in what the call leaves open; the deadline is the stack's to set."""
        if call.tokens is None:
            call.tokens = self.tokens
        if call.partition is None:
            call.partition = self.partition
        if call.request_id is None:
            call.request_id = self.request_id
        if self.tags:
            call.tags = {**self.tags, **call.tags}


def check_options(tokens: object, partition: object, deadline: object) -> None:
    """Check what is said about a call; None leaves it open.

    Raises:
        ConfigurationError: a value is out of its range, or no such value.
    """
    if tokens is not None:
        bounds.at_least(tokens, 0, "tokens")
    if partition is not None and not isinstance(partition, str):
        raise ConfigurationError(
            f"partition is the name of a limit, a text like a model's; got {partition!r}"
        )
    if deadline is not None:
        bounds.positive(deadline, "deadline, in seconds,")


_OPTIONS: ContextVar[CallOptions | None] = ContextVar("resilient_infe", default=None)

current_options = _OPTIONS.get
"""Returns the options of the enclosing `call_options` blocks, or None outside of any."""


@contextmanager
def call_options(
    *,
    tokens: float | None = None,
    partition: str | None = None,
    request_id: str | None = None,
    deadline: float | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Give values to the calls made inside the block; an inner block adds to the outer one.

    Args:
        tokens: the estimated cost of each call, from 0.
        partition: the limit, circuit and slots that the calls belong to.
        request_id: the id of the call; for a block around one call.
        deadline: seconds for each whole call, above 0, counted from when it is made.
        tags: labels that appear in the calls' events.

    Raises:
        ConfigurationError: a value is out of its range.
    """
    given = CallOptions(tokens, partition, request_id, deadline, tags)
    outer = current_options() or CallOptions()
    merged = CallOptions(
        outer.tokens if given.tokens is None else given.tokens,
        outer.partition if given.partition is None else given.partition,
        outer.request_id if given.request_id is None else given.request_id,
        outer.deadline if given.deadline is None else given.deadline,
        {**(outer.tags or {}), **(given.tags or {})},
    )
    token = _OPTIONS.set(merged)
    try:
        yield
    finally:
        _OPTIONS.reset(token)
