"""Options of a call, for code that cannot pass them as arguments.

A wrapped client keeps its own signature, which has no ``tokens`` or ``partition``. So these values
are kept in a context variable. They apply to all calls made inside the ``with`` block, in this task
and in the tasks that it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..core import bounds
from ..core.call import Call
from ..core.priority import Priority, standing_of
from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of a call; None means not set. `call_options` describes each one."""

    tokens: float | None = None
    partition: str | None = None
    request_id: str | None = None
    deadline: float | None = None
    tags: Mapping[str, Any] | None = None
    max_attempts: int | None = None
    priority: Priority | None = None
    tenant: str | None = None

    def __post_init__(self) -> None:
        check_options(self.tokens, self.partition, self.deadline, self.max_attempts)
        standing_of(self.priority, self.tenant)

    def fill(self, call: Call[Any]) -> None:
        """Set the options that the call has not set. The stack itself sets the deadline."""
        if call.tokens is None:
            call.tokens = self.tokens
        if call.partition is None:
            call.partition = self.partition
        if call.request_id is None:
            call.request_id = self.request_id
        if call.priority is None:
            call.priority = self.priority
        if call.tenant is None:
            call.tenant = self.tenant
        if call.state.max_attempts is None:
            call.state.max_attempts = self.max_attempts
        if self.tags:
            call.tags = {**self.tags, **call.tags}


def set_options(
    call: Call[Any], options: CallOptions | None, seconds: float | None, *, allowed: bool
) -> None:
    """Set what a call leaves open, by `call_options`, and its deadline.

    Args:
        call: the call, whose start is known.
        options: those of the enclosing blocks, or None.
        seconds: the call's own deadline, or None.
        allowed: whether the stack has a `Deadline`.

    Raises:
        ConfigurationError: there is a deadline, and the stack has no layer for it.
    """
    if options is not None:
        options.fill(call)
        seconds = options.deadline if seconds is None else seconds
    if seconds is None:
        return
    if not allowed:
        raise ConfigurationError(
            "a call with deadline= needs a Deadline layer, and this stack has none: add "
            "Deadline(), which bounds only the calls that have a deadline"
        )
    call.deadline = call.started + seconds


def check_options(
    tokens: object, partition: object, deadline: object, max_attempts: object = None
) -> None:
    """Check options of a call; None means not set.

    Raises:
        ConfigurationError: a value is out of range or of a wrong type.
    """
    if tokens is not None:
        bounds.at_least(tokens, 0, "tokens")
    if partition is not None and not isinstance(partition, str):
        raise ConfigurationError(
            f"partition must be text, such as the name of a model; got {partition!r}"
        )
    if deadline is not None:
        bounds.positive(deadline, "deadline, in seconds,")
    if max_attempts is not None:
        bounds.whole(max_attempts, 1, "max_attempts, which counts the first,")


def misplaced(fields: Iterable[str], *, given: bool) -> ConfigurationError:
    """Return the error for a call without a payload, or with a request's fields beside it."""
    options = "the options of send are tokens, partition, request_id, deadline, tags, "
    options += "priority and tenant"
    names = ", ".join(map(repr, fields))
    if given:
        return ConfigurationError(f"{names} is not an option: put it into the payload; {options}")
    example = ", ".join(f"{name!r}: ..." for name in fields) or "..."
    return ConfigurationError(
        f"pass the payload as one argument: await send({{{example}}}); {options}"
    )


_OPTIONS: ContextVar[CallOptions | None] = ContextVar("resilient_infe", default=None)

current_options = _OPTIONS.get
"""Returns the merged options of the enclosing `call_options` blocks; None outside any block."""


@contextmanager
def call_options(
    *,
    tokens: float | None = None,
    partition: str | None = None,
    request_id: str | None = None,
    deadline: float | None = None,
    tags: Mapping[str, Any] | None = None,
    max_attempts: int | None = None,
    priority: Priority | None = None,
    tenant: str | None = None,
) -> Iterator[None]:
    """Set options for the calls made inside the ``with`` block.

    An inner block overrides the outer one, option by option and tag by tag. An argument of the call
    itself overrides both. None leaves an option as it is.

    Args:
        tokens: the estimated cost of each call in tokens, 0 or more.
        partition: the name of the group of calls that share a limit, a circuit and slots.
        request_id: the id of the call; for a block around a single call.
        deadline: seconds for each whole call, above 0, counted from the start of that call.
        tags: labels; every event of the calls has them.
        max_attempts: the most attempts of each call that are sent, from 1. 1 sends a request once,
            for one that must not be done twice; it is not sent again after a 429 either. It never
            adds to the attempts of `Retry`.
        priority: the class of the calls, "interactive", "normal" or "batch": while calls wait for a
            slot or for the rate limit, they are served in this order.
        tenant: the name of the one that the calls are for; the tenants of a class get equal shares.

    Raises:
        ConfigurationError: a value is out of range or of a wrong type.
    """
    given = CallOptions(
        tokens, partition, request_id, deadline, tags, max_attempts, priority, tenant
    )
    outer = current_options() or CallOptions()
    merged = CallOptions(
        outer.tokens if given.tokens is None else given.tokens,
        outer.partition if given.partition is None else given.partition,
        outer.request_id if given.request_id is None else given.request_id,
        outer.deadline if given.deadline is None else given.deadline,
        {**(outer.tags or {}), **(given.tags or {})},
        outer.max_attempts if given.max_attempts is None else given.max_attempts,
        outer.priority if given.priority is None else given.priority,
        outer.tenant if given.tenant is None else given.tenant,
    )
    token = _OPTIONS.set(merged)
    try:
        yield
    finally:
        _OPTIONS.reset(token)
