"""Two ready-made stacks, so that a program can start without knowing every layer.

`service` is for code that answers a waiting user: each call has a deadline, and fails fast. `batch`
is for a pipeline that must finish: calls have no deadline, and wait whenever a refusal says for how
long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

from .circuit.circuit import Circuit
from .circuit.layer import CircuitBreaker
from .classify.layer import ErrorClassifier
from .classify.rule import Classify
from .core.by_model import Count, Rate, by_model
from .core.call import FIRST_CHUNK
from .core.keyed import Keyed
from .core.priority import TRICKLE
from .core.verdict import Kind
from .errors import ConfigurationError
from .events import Listener
from .rate.account import Account
from .rate.allowance import Allowance
from .rate.estimate import estimate_tokens
from .rate.layer import RateLimiter
from .rate.processes import parts
from .retry.budget import RetryBudget
from .retry.layer import Retry
from .retry.schedule import RULES, KindRule
from .shared import RedisShares
from .slots.layer import ConcurrencyLimiter
from .slots.slots import Slots
from .stack import Stack
from .telemetry.request_id import RequestIdLogger
from .timeouts.attempt import AttemptTimeout
from .timeouts.deadline import Deadline

CONCURRENCY = 64
"""Attempts in flight in each partition."""

SERVICE_ATTEMPTS = 4
"""Attempts of a call of a service; four have at most 9 s of backoff between them."""

BATCH_ATTEMPTS = 10
"""Attempts of a call of a batch; ten have at most 4 min 3 s of backoff between them."""

SERVICE_BURST = 30.0
"""The burst of a service, in seconds of the rate, as far as the server bears it.

Calls of people come in bursts. At half of the load, with large and small requests, a burst of 1 s
adds 16 s to one call in a hundred; with 30 s none waits."""

BATCH_BURST = 0.5
"""The burst of a batch, in seconds of the rate.

A batch gains nothing by a burst. Servers hold a burst of a second, so half of it leaves room for
half a second of network jitter."""

BATCH_REST = 5.0
"""Seconds that the circuit of a batch stays open.

Less than for a service: a failed probe costs a batch less than an idle pipeline."""

SERVICE_TIMEOUT = 60.0
"""Seconds for one attempt of a service, so that its deadline has room for two."""

BATCH_TIMEOUT = 120.0
"""Seconds for one attempt of a batch, which nobody waits for."""

THROTTLE_BELOW = 0.4
"""The share of successes below which the circuits of both presets refuse a part of the attempts.

It is below 0.5 by more than chance: a server that sheds half of the attempts is sent all of them. A
smaller value protects an overloaded server less: with a retry budget of 100 %, 0.3 answered 6 % of
the calls while the server was slow, 0.4 answered 13 %, because fewer attempts were shed."""


def service(
    *,
    requests_per_minute: Rate = None,
    tokens_per_minute: Rate = None,
    input_tokens_per_minute: Rate = None,
    output_tokens_per_minute: Rate = None,
    requests_per_day: Rate = None,
    tokens_per_day: Rate = None,
    cached_weight: float | None = None,
    follow_headers: bool = True,
    account: Account | Mapping[str, float] | None = None,
    share: float = 1.0,
    processes: int = 1,
    shared: bool | RedisShares = False,
    concurrency: Count = CONCURRENCY,
    max_waiting: int | None = 1_000,
    deadline: float = 120.0,
    attempt_timeout: float = SERVICE_TIMEOUT,
    first_chunk: float | Literal["auto"] | None = "auto",
    max_attempts: int = SERVICE_ATTEMPTS,
    budget: RetryBudget | None = None,
    estimate: Callable[[Any], float] = estimate_tokens,
    beliefs: Mapping[str, Mapping[str, Any]] | None = None,
    listeners: Iterable[Listener] = (),
    retry: Retry | None = None,
    circuit: CircuitBreaker | Circuit | Keyed[Circuit] | None = None,
    classifier: ErrorClassifier | Classify | None = None,
    log: Any = True,
    max_keys: int = 1_024,
    trickle: float = TRICKLE,
) -> Stack:
    """Return a stack for code that answers a waiting user: bounded in time, and failing fast.

    Each partition has its own slots, limits and circuit. If the stack refuses a call, or the retry
    budget is empty, the error is raised at once.

    Args:
        requests_per_minute: the limit of each partition, above 0; None, the default, to learn it.
            Or one for each model, as in ``{"infe-pulse": 1_200, "*": 60}``: ``"*"`` is for each
            other model, whose limit is learned without it. So for each of the limits below.
        tokens_per_minute: the same for the tokens of input and output together.
        input_tokens_per_minute: the same for those of the input alone; None, the default, for none.
        output_tokens_per_minute: the same for those of the output, reasoning included.
        requests_per_day: the limit of any 24 hours, above 0; None, the default, for none. A call
            that meets it is refused with `DayUsedUp`.
        tokens_per_day: the same for tokens.
        cached_weight: what a token of the input that was read from the provider's cache counts, in
            [0, 1]; None, the default, to count it as the provider's usage does.
        follow_headers: whether to follow the limits that the server states; True by default.
        account: a limit over all partitions, besides those above: an `Account`, or a mapping of its
            arguments, such as ``{"requests_per_minute": 2_000}``, with the share and the burst of
            this preset; None, the default, if there is none.
        share: the part of the limits that this process, or all `processes` together, may use, in
            (0, 1]; 1 by default. It does not apply to a learned limit.
        processes: how many processes use the limits at the same time, from 1, the default. Each
            keeps an equal part of what is declared or stated, and `shared` is True if there are
            several. `concurrency` is not divided: it is about this process.
        shared: a `RedisShares`, which divides the limits by need; or whether others use a learned
            limit too, with this option, so that the parts become equal. False by default.
        concurrency: the number of attempts in flight in each partition, from 1; 64 by default. Or
            one for each model, in the same way; 64 for each other model without ``"*"``.
        max_waiting: the number of calls in each partition that may wait for a slot, 0 or more; the
            next one gets `QueueFull`. None for no bound; 1,000 by default.
        deadline: the time for a whole call in seconds, above 0; 120 by default.
        attempt_timeout: seconds for one attempt, above 0; 60 by default, half of the deadline.
        first_chunk: seconds to the first event of a stream, above 0; None to leave it to
            `attempt_timeout`. "auto", the default, is 60, or `attempt_timeout` if you set that.
        max_attempts: the number of attempts, including the first, from 1; 4 by default.
        budget: the bound on the retries of all calls; by default a `RetryBudget()`, which allows
            retries for about 20 % of the calls.
        estimate: a function that returns the tokens of a request's body. By default: its characters
            divided by four, plus the output it asks for.
        beliefs: what `Stack.beliefs` returned in an earlier run, to start from what it knew.
        listeners: callables that receive every event; by default there are none.
        retry: a `Retry` that replaces the one of this preset.
        circuit: replaces the circuits of this preset: a `Circuit` for all partitions, a `Keyed`
            that makes one for each, or a `CircuitBreaker`.
        classifier: a rule that is applied first, or an `ErrorClassifier`.
        log: True, the default, to log by structlog; False; a structlog logger; a `RequestIdLogger`.
        max_keys: the partitions that are kept at the same time, at least 1; 1,024 by default. The
            least recently used one that is not in use makes room for another.
        trickle: the share of slots and rate that is guaranteed to each class (`priority=` of a
            call) below the highest that waits, from 0 to 1/3; 0.1 by default.

    Raises:
        ConfigurationError: a value is out of range, or two of them contradict each other.
    """
    if retry is None:
        retry = Retry(max_attempts, budget=RetryBudget() if budget is None else budget)
    elif budget is not None or max_attempts != SERVICE_ATTEMPTS:
        raise ConfigurationError("service takes retry=, or max_attempts= and budget=, not both")
    part, several = parts(share, processes, shared)
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "input_tokens_per_minute": input_tokens_per_minute,
        "output_tokens_per_minute": output_tokens_per_minute,
        "requests_per_day": requests_per_day,
        "tokens_per_day": tokens_per_day,
        "cached_weight": cached_weight,
    }
    return Stack(
        _logger(log),
        Deadline(deadline),
        retry,
        ConcurrencyLimiter(_keyed_slots(concurrency, max_waiting, max_keys, trickle)),
        _limiter(
            limits,
            account,
            max_keys,
            {"share": part, "burst": SERVICE_BURST, "trickle": trickle},
            {"shared": several, "follow_headers": follow_headers},
            shared,
            estimate=estimate,
            beliefs=beliefs,
        ),
        _breaker(circuit, _keyed_circuits(10.0, max_keys)),
        _classifier(classifier),
        _timeout(attempt_timeout, first_chunk, SERVICE_TIMEOUT),
        listeners=listeners,
    )


def batch(
    *,
    requests_per_minute: Rate = None,
    tokens_per_minute: Rate = None,
    input_tokens_per_minute: Rate = None,
    output_tokens_per_minute: Rate = None,
    requests_per_day: Rate = None,
    tokens_per_day: Rate = None,
    cached_weight: float | None = None,
    follow_headers: bool = True,
    account: Account | Mapping[str, float] | None = None,
    share: float = 1.0,
    processes: int = 1,
    shared: bool | RedisShares = False,
    concurrency: Count = CONCURRENCY,
    attempt_timeout: float = BATCH_TIMEOUT,
    first_chunk: float | Literal["auto"] | None = "auto",
    max_attempts: int = BATCH_ATTEMPTS,
    max_hint: float = 300.0,
    estimate: Callable[[Any], float] = estimate_tokens,
    beliefs: Mapping[str, Mapping[str, Any]] | None = None,
    listeners: Iterable[Listener] = (),
    retry: Retry | None = None,
    circuit: CircuitBreaker | Circuit | Keyed[Circuit] | None = None,
    classifier: ErrorClassifier | Classify | None = None,
    log: Any = True,
    max_keys: int = 1_024,
    trickle: float = TRICKLE,
) -> Stack:
    """Return a stack for a pipeline that must finish: it has no deadline, and waits where it can.

    Each partition has its own slots, limits and circuit. The differences from `service`:

    - A call waits while the circuit is open, and a 429 uses up no attempts.
    - There is no retry budget, because the rate limit already bounds retries. (With a budget, 241
      of 1,500 calls were lost in an outage of 5 s.)
    - A 500 is retried as often as any other failure.
    - A failed probe of a half-open circuit uses up no attempts, so a call survives any outage.

    Args:
        requests_per_minute: the limit of each partition, above 0; None, the default, to learn it.
            Or one for each model, as in ``{"infe-pulse": 1_200, "*": 60}``: ``"*"`` is for each
            other model, whose limit is learned without it. So for each of the limits below.
        tokens_per_minute: the same for the tokens of input and output together.
        input_tokens_per_minute: the same for those of the input alone; None, the default, for none.
        output_tokens_per_minute: the same for those of the output, reasoning included.
        requests_per_day: the limit of any 24 hours, above 0; None, the default, for none. A batch
            that meets it pauses, and says until when.
        tokens_per_day: the same for tokens.
        cached_weight: what a token of the input that was read from the provider's cache counts, in
            [0, 1]; None, the default, to count it as the provider's usage does.
        follow_headers: whether to follow the limits that the server states; True by default.
        account: a limit over all partitions, besides those above: an `Account`, or a mapping of its
            arguments, such as ``{"requests_per_minute": 2_000}``, with the share and the burst of
            this preset; None, the default, if there is none.
        share: the part of the limits that this process, or all `processes` together, may use, in
            (0, 1]; 1 by default. It does not apply to a learned limit.
        processes: how many processes use the limits at the same time, from 1, the default. Each
            keeps an equal part of what is declared or stated, and `shared` is True if there are
            several. `concurrency` is not divided: it is about this process.
        shared: a `RedisShares`, which divides the limits by need; or whether others use a learned
            limit too, with this option, so that the parts become equal. False by default.
        concurrency: the number of attempts in flight in each partition, from 1; 64 by default. Or
            one for each model, in the same way; 64 for each other model without ``"*"``.
        attempt_timeout: the time for one attempt in seconds, above 0; 120 by default.
        first_chunk: seconds to the first event of a stream, above 0; None to leave it to
            `attempt_timeout`. "auto", the default, is 60, or `attempt_timeout` if you set that.
        max_attempts: the attempts, without 429s and failed probes, from 1; 10 by default.
        max_hint: the longest hint in seconds, above 0; if the server asks to wait longer, the call
            fails. 300 by default.
        estimate: a function that returns the tokens of a request's body. By default: its characters
            divided by four, plus the output it asks for.
        beliefs: what `Stack.beliefs` returned in an earlier run, to start from what it knew.
        listeners: callables that receive every event; by default there are none.
        retry: a `Retry` that replaces the one of this preset.
        circuit: replaces the circuits of this preset: a `Circuit` for all partitions, a `Keyed`
            that makes one for each, or a `CircuitBreaker`.
        classifier: a rule that is applied first, or an `ErrorClassifier`.
        log: True, the default, to log by structlog; False; a structlog logger; a `RequestIdLogger`.
        max_keys: the partitions that are kept at the same time, at least 1; 1,024 by default. The
            least recently used one that is not in use makes room for another.
        trickle: the share of slots and rate that is guaranteed to each class (`priority=` of a
            call) below the highest that waits, from 0 to 1/3; 0.1 by default.

    Raises:
        ConfigurationError: a value is out of range, or two of them contradict each other.
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
        raise ConfigurationError("batch takes retry= or max_attempts=, not both")
    part, several = parts(share, processes, shared)
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "input_tokens_per_minute": input_tokens_per_minute,
        "output_tokens_per_minute": output_tokens_per_minute,
        "requests_per_day": requests_per_day,
        "tokens_per_day": tokens_per_day,
        "cached_weight": cached_weight,
    }
    return Stack(
        _logger(log),
        Deadline(),
        retry,
        ConcurrencyLimiter(_keyed_slots(concurrency, None, max_keys, trickle)),
        _limiter(
            limits,
            account,
            max_keys,
            {"share": part, "burst": BATCH_BURST, "trickle": trickle},
            {"shared": several, "follow_headers": follow_headers},
            shared,
            max_hint=max_hint,
            estimate=estimate,
            beliefs=beliefs,
        ),
        _breaker(circuit, _keyed_circuits(BATCH_REST, max_keys)),
        _classifier(classifier),
        _timeout(attempt_timeout, first_chunk, BATCH_TIMEOUT),
        listeners=listeners,
    )


def _logger(log: Any) -> RequestIdLogger:
    if isinstance(log, RequestIdLogger):
        return log
    if isinstance(log, bool):
        return RequestIdLogger(log=log)
    if not hasattr(log, "bind"):
        raise ConfigurationError(
            f"log must be True, False, a bound structlog logger or a RequestIdLogger; got {log!r}"
        )
    return RequestIdLogger(log)


def _breaker(
    circuit: CircuitBreaker | Circuit | Keyed[Circuit] | None, usual: Keyed[Circuit]
) -> CircuitBreaker:
    if isinstance(circuit, CircuitBreaker):
        return circuit
    return CircuitBreaker(usual if circuit is None else circuit)


def _keyed_circuits(open_for: float, max_keys: int) -> Keyed[Circuit]:
    def make() -> Circuit:
        return Circuit(open_for=open_for, throttle_below=THROTTLE_BELOW)

    return Keyed(make, max_keys=max_keys)


def _timeout(
    seconds: float, first_chunk: float | Literal["auto"] | None, usual: float
) -> AttemptTimeout:
    if first_chunk == "auto":
        first_chunk = FIRST_CHUNK if seconds == usual else None
    return AttemptTimeout(seconds, first_chunk=first_chunk)


def _classifier(classifier: ErrorClassifier | Classify | None) -> ErrorClassifier:
    return classifier if isinstance(classifier, ErrorClassifier) else ErrorClassifier(classifier)


def _keyed_slots(
    limit: Count, max_waiting: int | None, max_keys: int, trickle: float
) -> Keyed[Slots]:
    def make(concurrency: int, max_waiting: int | None) -> Slots:
        return Slots(concurrency, max_waiting=max_waiting, trickle=trickle)

    limits = {"concurrency": limit, "max_waiting": max_waiting}
    return by_model(make, limits, {"concurrency": CONCURRENCY}, max_keys=max_keys)


def _limiter(
    limits: Mapping[str, Rate],
    account: Account | Mapping[str, float] | None,
    max_keys: int,
    common: Mapping[str, Any],
    own: Mapping[str, Any],
    shared: bool | RedisShares,
    **others: Any,
) -> RateLimiter:
    """Return the rate limiter; an account has what is `common`, an allowance its `own` too."""
    allowances = by_model(partial(Allowance, **common, **own), limits, max_keys=max_keys)
    given: Any = account
    if isinstance(account, Mapping):
        given = {**common, "cached_weight": limits["cached_weight"], **account}
    others["shared"] = isinstance(shared, RedisShares) and shared
    return RateLimiter(allowances, account=given, **others)
