"""Which orders of layers are allowed, and why the others are not.

A wrong order does not fail at run time. It silently sends too much, holds slots while calls sleep,
or never opens the circuit. So the rules are data, and are checked when a stack is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..circuit.layer import CircuitBreaker
from ..classify.layer import ErrorClassifier
from ..errors import LayerOrderError
from ..fallback.layer import Fallback
from ..hedge.layer import Hedge
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
    Fallback,
    Hedge,
    ConcurrencyLimiter,
    RateLimiter,
    CircuitBreaker,
    ErrorClassifier,
    AttemptTimeout,
)
"""The allowed order of the layers, outermost first."""

WHY: dict[tuple[type, type], str] = {
    (RequestIdLogger, Retry): "an id is for the whole call, not for one attempt",
    (Deadline, Retry): "inside Retry, its time would start again with every attempt",
    (Deadline, ConcurrencyLimiter): "the deadline must also end the wait for a slot",
    (Deadline, RateLimiter): "the deadline must also end the wait for the rate limit",
    (Retry, ConcurrencyLimiter): "otherwise a slot is held while a call backs off",
    (Retry, RateLimiter): "otherwise retries are not charged to the rate limit",
    (Retry, CircuitBreaker): "the circuit must admit and count every attempt",
    (Retry, ErrorClassifier): "each attempt needs a verdict of its own",
    (Retry, AttemptTimeout): "the timeout is for one attempt",
    (Retry, Fallback): "a caller must not wait for a model that is down while another one answers",
    (Fallback, Hedge): "the second attempt goes where the first one goes",
    (Fallback, ConcurrencyLimiter): "each target has slots of its own",
    (Fallback, RateLimiter): "each target has a rate limit of its own",
    (Fallback, CircuitBreaker): "each target has a circuit of its own",
    (Fallback, ErrorClassifier): "it goes on by the verdict, and the classifier sets that",
    (Fallback, AttemptTimeout): "the timeout is for one target",
    (Retry, Hedge): "two attempts side by side are one outcome, which is retried or not",
    (Hedge, ConcurrencyLimiter): "the second attempt needs a slot of its own",
    (Hedge, RateLimiter): "otherwise the second attempt is not charged to the rate limit",
    (Hedge, CircuitBreaker): "the circuit must admit and count each of the two attempts",
    (Hedge, ErrorClassifier): "each of the two attempts needs a verdict of its own",
    (Hedge, AttemptTimeout): "the timeout is for one of the two attempts",
    (
        ConcurrencyLimiter,
        RateLimiter,
    ): "otherwise calls that the rate limit has admitted wait for slots, and leave as a burst",
    (
        ConcurrencyLimiter,
        CircuitBreaker,
    ): "calls that queued before the circuit opened must be refused too",
    (
        RateLimiter,
        CircuitBreaker,
    ): "calls that queued before the circuit opened must be refused too",
    (RateLimiter, ErrorClassifier): "it settles by the verdict, and the classifier sets that",
    (CircuitBreaker, ErrorClassifier): "it counts by the verdict, and the classifier sets that",
    (
        ErrorClassifier,
        AttemptTimeout,
    ): "otherwise a timed-out attempt looks cancelled, and the circuit never opens",
}
"""Why the first layer must be outside the second; a pair without an entry uses `GENERALLY`."""

GENERALLY: dict[type, str] = {
    RequestIdLogger: "its id and its log record must cover the whole call",
    Deadline: "it must end whatever the call does at that moment",
    ConcurrencyLimiter: "the wait for a slot is not part of the attempt",
    RateLimiter: "the wait for the rate limit is not part of the attempt",
    CircuitBreaker: "a refusal is not an attempt",
}
"""Why a layer must be outside any layer after it in `ORDER`."""

OUTSIDE: tuple[tuple[type, type, str], ...] = tuple(
    (outer, inner, WHY.get((outer, inner)) or GENERALLY[outer])
    for place, outer in enumerate(ORDER)
    for inner in ORDER[place + 1 :]
)
"""Every pair of `ORDER`: the outer layer, the inner layer, and the reason."""


MORE: dict[type, str] = {
    Retry: ", and their attempts would multiply",
    RateLimiter: (
        ", and calls that wait for one would keep what they took from the other. For a limit over "
        "all models use RateLimiter(..., account=Account(requests_per_minute=...))"
    ),
}
"""What is wrong with two layers of a kind, besides that one is superfluous."""


def check_order(layers: Sequence[Any]) -> None:
    """Check the order of `layers`, outermost first.

    Raises:
        LayerOrderError: a layer is missing, is there twice, or is on the wrong side of another one.
            The message has the reason and the allowed order.
    """
    positions = {
        cls: [i for i, layer in enumerate(layers) if isinstance(layer, cls)] for cls in ORDER
    }
    if not positions[ErrorClassifier]:
        raise LayerOrderError(
            "there is no ErrorClassifier: without it no reply gets a verdict, and no other layer "
            "reacts to errors. Add ErrorClassifier() next to the transport."
        )
    for cls, found in positions.items():
        if len(found) > 1 and cls is not ConcurrencyLimiter:
            more = MORE.get(cls, "")
            raise LayerOrderError(f"there are {len(found)} {cls.__name__} layers{more}: keep one.")
    if positions[Fallback] and any(
        isinstance(each, CircuitBreaker) and each.circuits.one is not None for each in layers
    ):
        raise LayerOrderError(
            "the CircuitBreaker has one circuit for all partitions, so an open one would stop the "
            "targets of the Fallback too: use CircuitBreaker(Keyed(Circuit))"
        )
    for outer, inner, why in OUTSIDE:
        if not _is_outside(positions, outer, inner):
            raise LayerOrderError(
                f"{outer.__name__} must stand outside {inner.__name__}: {why}. The allowed order "
                f"is {' -> '.join(cls.__name__ for cls in ORDER)}. "
                f"(Stack(..., strict=False) accepts any order.)"
            )


def _is_outside(positions: dict[type, list[int]], outer: type, inner: type) -> bool:
    """Whether every `outer` layer is outside every `inner` layer; True if one of them is absent.

    There is one exception. A second concurrency limiter may be inside the rate limiter, as a bound
    over all partitions. So for this pair only the outermost concurrency limiter must be outside.
    """
    if not positions[outer] or not positions[inner]:
        return True
    caps_partitions = (outer, inner) == (ConcurrencyLimiter, RateLimiter)
    last = min(positions[outer]) if caps_partitions else max(positions[outer])
    return last < min(positions[inner])
