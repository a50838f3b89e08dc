"""Which orders of layers work, and why the others do not.

The rules are data, checked when a stack is built, because a wrong order does not fail: it silently
sends too much, holds slots while sleeping, or never opens the circuit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..circuit.layer import CircuitBreaker
from ..classify.layer import ErrorClassifier
from ..errors import LayerOrderError
from ..rate.layer import RateLimiter
from ..retry.layer import Retry
from ..slots.layer import ConcurrencyLimiter
from ..telemetry.request_id import RequestIdLogger
from ..timeouts.attempt import AttemptTimeout
from ..timeouts.deadline import Deadline

ORDER: tuple[type, ...] = (
    RequestIdLogger,
    Deadline,
    Retry,
    ConcurrencyLimiter,
    RateLimiter,
    CircuitBreaker,
    ErrorClassifier,
    AttemptTimeout,
)
"""The order that works, outermost first."""

WHY: dict[tuple[type, type], str] = {
    (RequestIdLogger, Retry): "an id is per call, not per attempt",
    (Deadline, Retry): "inside Retry, its time would start anew with every attempt",
    (Deadline, ConcurrencyLimiter): "the deadline must cut the wait for a slot",
    (Deadline, RateLimiter): "the deadline must cut the wait for the rate limit",
    (Retry, ConcurrencyLimiter): "otherwise a slot is held while a call backs off",
    (Retry, RateLimiter): "otherwise retries are sent without asking the rate limit",
    (Retry, CircuitBreaker): "every attempt must be judged and counted by the circuit",
    (Retry, ErrorClassifier): "each attempt needs a verdict of its own",
    (Retry, AttemptTimeout): "the timeout is for one attempt",
    (
        ConcurrencyLimiter,
        RateLimiter,
    ): "permission to send that then waits for a slot goes out as a burst",
    (
        ConcurrencyLimiter,
        CircuitBreaker,
    ): "calls that queued before the circuit opened must be stopped too",
    (
        RateLimiter,
        CircuitBreaker,
    ): "calls that queued before the circuit opened must be stopped too",
    (RateLimiter, ErrorClassifier): "it settles by the verdict, which the classifier sets",
    (CircuitBreaker, ErrorClassifier): "it counts by the verdict, which the classifier sets",
    (
        ErrorClassifier,
        AttemptTimeout,
    ): "otherwise a timed-out attempt looks cancelled, and the circuit never opens",
}
"""Why the first must stand outside the second, where there is more to say than `GENERALLY` does."""

GENERALLY: dict[type, str] = {
    RequestIdLogger: "its id and its report must cover the whole call",
    Deadline: "it must cut whatever a call is doing",
    ConcurrencyLimiter: "the wait for a slot is no part of the attempt",
    RateLimiter: "the wait for the rate limit is no part of the attempt",
    CircuitBreaker: "a refusal is no attempt",
}

OUTSIDE: tuple[tuple[type, type, str], ...] = tuple(
    (outer, inner, WHY.get((outer, inner)) or GENERALLY[outer])
    for place, outer in enumerate(ORDER)
    for inner in ORDER[place + 1 :]
)
"""Every pair of the order: which must stand outside which, and why."""


def check_order(layers: Sequence[Any]) -> None:
    """Raise an error that explains itself if the layers, outermost first, cannot work together.

    Raises:
        LayerOrderError: a layer is missing, doubled, or on the wrong side of another.
    """
    positions = {
        cls: [i for i, layer in enumerate(layers) if isinstance(layer, cls)] for cls in ORDER
    }
    if not positions[ErrorClassifier]:
        raise LayerOrderError(
            "there is no ErrorClassifier: without it nothing decides what a reply means, and no "
            "layer reacts. Add ErrorClassifier() next to the transport."
        )
    for cls, found in positions.items():
        if len(found) > 1 and cls is not ConcurrencyLimiter:
            more = " and their attempts would multiply" if cls is Retry else ""
            raise LayerOrderError(f"there are {len(found)} {cls.__name__} layers{more}: keep one.")
    for outer, inner, why in OUTSIDE:
        if not _stands_outside(positions, outer, inner):
            raise LayerOrderError(
                f"{outer.__name__} must stand outside {inner.__name__}: {why}. The order that "
                f"works is {' -> '.join(cls.__name__ for cls in ORDER)}. "
                f"(Stack(..., strict=False) allows any.)"
            )


def _stands_outside(positions: dict[type, list[int]], outer: type, inner: type) -> bool:
    """Whether every `outer` layer is outside every `inner` one.

    One exception: a second concurrency limiter inside the rate limiter caps all partitions.
    """
    if not positions[outer] or not positions[inner]:
        return True
    caps_partitions = (outer, inner) == (ConcurrencyLimiter, RateLimiter)
    last = min(positions[outer]) if caps_partitions else max(positions[outer])
    return last < min(positions[inner])
