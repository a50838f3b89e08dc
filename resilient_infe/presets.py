"""Two stacks that most programs want, so that nobody has to know every layer first.

A service answers somebody who waits: it has a deadline, and fails fast. A batch must finish: it has
none, and waits out whatever says how long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .circuit.circuit import Circuit
from .circuit.layer import CircuitBreaker
from .classify.layer import ErrorClassifier
from .classify.rule import Classify
from .core.keyed import Keyed
from .core.verdict import Kind
from .errors import ConfigurationError
from .events import Listener
from .rate.allowance import Allowance
from .rate.estimate import estimate_tokens
from .rate.layer import RateLimiter
from .retry.budget import RetryBudget
from .retry.layer import Retry
from .retry.schedule import RULES, KindRule
from .slots.layer import ConcurrencyLimiter
from .slots.slots import Slots
from .stack import Stack
from .telemetry.request_id import RequestIdLogger
from .timeouts.attempt import AttemptTimeout
from .timeouts.deadline import Deadline

SERVICE_ATTEMPTS = 4
"""Attempts of a service's call: between four there are at most 9 s of backoff."""

BATCH_ATTEMPTS = 10
"""Attempts of a batch's call that may fail: between ten there are at most 4 minutes of backoff."""

BATCH_BURST = 0.5
"""Seconds of the rate: a batch gains nothing by a burst, and half of what servers hold leaves room
for half a second of network jitter."""

BATCH_REST = 5.0
"""Seconds that a batch's circuit rests: a probe costs it little, an idle pipeline more."""


def service(
    *,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    share: float = 1.0,
    concurrency: int = 64,
    max_waiting: int | None = 1_000,
    deadline: float = 120.0,
    attempt_timeout: float = 60.0,
    max_attempts: int = SERVICE_ATTEMPTS,
    budget: RetryBudget | None = None,
    estimate: Callable[[Any], float] = estimate_tokens,
    beliefs: Mapping[str, Mapping[str, Any]] | None = None,
    listeners: Iterable[Listener] = (),
    retry: Retry | None = None,
    circuit: CircuitBreaker | Circuit | Keyed[Circuit] | None = None,
    classifier: ErrorClassifier | Classify | None = None,
    log: Any = True,
) -> Stack:
    """Return a stack for code that answers somebody who waits: bounded in time, failing fast.

    Slots, limits and circuits are per partition. A refusal of our own, or an empty retry budget, is
    raised at once.

    Args:
        requests_per_minute: the limit of each partition; None to learn it.
        tokens_per_minute: likewise for tokens.
        share: the part of the limits that is ours, in (0, 1]; ``1 / 20`` for 20 replicas.
        concurrency: attempts in flight per partition, from 1; 64.
        max_waiting: calls that may wait for a slot per partition; beyond, `QueueFull`; 1,000.
        deadline: seconds for the whole call; 120.
        attempt_timeout: seconds for one attempt; 60, so that the deadline has room for two.
        max_attempts: attempts in all, the first included; 4.
        budget: the bound on retries over all calls; by default one of 20 %.
        estimate: the tokens of a request's body; by default its characters over four and the
            output it asks for.
        beliefs: what `Stack.beliefs` gave in an earlier run, so that no limit is learned anew.
        listeners: take every event.
        retry: takes the place of this preset's `Retry`, with rules of its own.
        circuit: takes the place of its circuits: one for all partitions, a `Keyed` that makes one
            for each, or a whole `CircuitBreaker`.
        classifier: a rule that is asked first, or a whole `ErrorClassifier`.
        log: False to log nothing; a bound structlog logger, or a whole `RequestIdLogger`.

    Raises:
        ConfigurationError: a value is out of its range, or two of them contradict each other.
    """
    if retry is None:
        retry = Retry(max_attempts, budget=RetryBudget() if budget is None else budget)
    elif budget is not None or max_attempts != SERVICE_ATTEMPTS:
        raise ConfigurationError("give a service retry=, or max_attempts= and budget=, not both")
    return Stack(
        _logger(log),
        Deadline(deadline),
        retry,
        ConcurrencyLimiter(_keyed_slots(concurrency, max_waiting)),
        RateLimiter(
            _keyed_allowances(requests_per_minute, tokens_per_minute, share, 1.0),
            estimate=estimate,
            beliefs=beliefs,
        ),
        _breaker(circuit, Keyed(Circuit)),
        _classifier(classifier),
        AttemptTimeout(attempt_timeout),
        listeners=listeners,
    )


def batch(
    *,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    share: float = 1.0,
    concurrency: int = 64,
    attempt_timeout: float = 120.0,
    max_attempts: int = BATCH_ATTEMPTS,
    max_hint: float = 300.0,
    estimate: Callable[[Any], float] = estimate_tokens,
    beliefs: Mapping[str, Mapping[str, Any]] | None = None,
    listeners: Iterable[Listener] = (),
    retry: Retry | None = None,
    circuit: CircuitBreaker | Circuit | Keyed[Circuit] | None = None,
    classifier: ErrorClassifier | Classify | None = None,
    log: Any = True,
) -> Stack:
    """Return a stack for a pipeline that must finish: no deadline, waiting instead of failing.

    Slots, limits and circuits are per partition. An open circuit is waited out; a 429 uses up no
    attempts; there is no retry budget, since the rate limit bounds retries already (with one, 241
    of 1,500 calls were lost in an outage of 5 s). A 500 is tried again as often as any other
    failure, and an attempt that was a circuit's probe is not counted, so no outage is too long.

    Args:
        requests_per_minute: the limit of each partition; None to learn it.
        tokens_per_minute: likewise for tokens.
        share: the part of the limits that is ours, in (0, 1]; ``1 / 20`` for 20 replicas.
        concurrency: attempts in flight per partition, from 1; 64.
        attempt_timeout: seconds for one attempt; 120.
        max_attempts: attempts that may fail, 429s not counted; 10.
        max_hint: seconds; a server that asks to wait longer fails the call; 300.
        estimate: the tokens of a request's body; by default its characters over four and the
            output it asks for.
        beliefs: what `Stack.beliefs` gave in an earlier run, so that no limit is learned anew.
        listeners: take every event.
        retry: takes the place of this preset's `Retry`, with rules of its own.
        circuit: takes the place of its circuits: one for all partitions, a `Keyed` that makes one
            for each, or a whole `CircuitBreaker`.
        classifier: a rule that is asked first, or a whole `ErrorClassifier`.
        log: False to log nothing; a bound structlog logger, or a whole `RequestIdLogger`.

    Raises:
        ConfigurationError: a value is out of its range, or two of them contradict each other.
    """
    if retry is None:
        patient = KindRule(RULES[Kind.RATE_LIMITED].backoff, counted=False)
        stubborn = KindRule(max_retries=None)
        retry = Retry(
            max_attempts,
            rules={Kind.RATE_LIMITED: patient, Kind.SERVER_ERROR: stubborn},
            max_hint=max_hint,
            wait_out_refusals=True,
        )
    elif max_attempts != BATCH_ATTEMPTS:
        raise ConfigurationError("give a batch retry= or max_attempts=, not both")
    return Stack(
        _logger(log),
        Deadline(),
        retry,
        ConcurrencyLimiter(_keyed_slots(concurrency, None)),
        RateLimiter(
            _keyed_allowances(requests_per_minute, tokens_per_minute, share, BATCH_BURST),
            max_hint=max_hint,
            estimate=estimate,
            beliefs=beliefs,
        ),
        _breaker(circuit, Keyed(lambda: Circuit(open_for=BATCH_REST))),
        _classifier(classifier),
        AttemptTimeout(attempt_timeout),
        listeners=listeners,
    )


def _logger(log: Any) -> RequestIdLogger:
    if isinstance(log, RequestIdLogger):
        return log
    return RequestIdLogger(log=log) if isinstance(log, bool) else RequestIdLogger(log)


def _breaker(
    circuit: CircuitBreaker | Circuit | Keyed[Circuit] | None, usual: Keyed[Circuit]
) -> CircuitBreaker:
    if isinstance(circuit, CircuitBreaker):
        return circuit
    return CircuitBreaker(usual if circuit is None else circuit)


def _classifier(classifier: ErrorClassifier | Classify | None) -> ErrorClassifier:
    return classifier if isinstance(classifier, ErrorClassifier) else ErrorClassifier(classifier)


def _keyed_slots(limit: int, max_waiting: int | None) -> Keyed[Slots]:
    Slots(limit, max_waiting=max_waiting)  # a wrong value is told now, not at the first call
    return Keyed(lambda: Slots(limit, max_waiting=max_waiting))


def _keyed_allowances(
    requests_per_minute: float | None, tokens_per_minute: float | None, share: float, burst: float
) -> Keyed[Allowance]:
    def make() -> Allowance:
        return Allowance(requests_per_minute, tokens_per_minute, share=share, burst=burst)

    make()  # a wrong value is told now, not at the first call
    return Keyed(make)
