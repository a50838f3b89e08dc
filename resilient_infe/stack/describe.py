"""The description of a stack (its layers and the worst case), and its current statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..circuit.layer import CircuitBreaker
from ..circuit.snapshot import CircuitStatistics
from ..core.verdict import Kind
from ..fallback.layer import Fallback
from ..fallback.targets import FallbackStatistics
from ..hedge.hedging import HedgeStatistics
from ..hedge.layer import Hedge
from ..rate.layer import RateLimiter
from ..rate.snapshots import AllowanceStatistics
from ..retry.budget import RetryBudgetStatistics
from ..retry.layer import Retry
from ..slots.layer import ConcurrencyLimiter
from ..slots.slots import SlotsStatistics
from ..timeouts.attempt import AttemptTimeout
from ..timeouts.deadline import Deadline


@dataclass(frozen=True, slots=True)
class StackStatistics:
    """A snapshot of a stack.

    The keys of `slots`, `allowances` and `circuits` are the names of the partitions. A policy that
    all partitions share has the key None.

    Attributes:
        in_flight: the number of calls that entered the stack and have not ended; a call whose
            stream is open has not ended.
        waiting: the number of calls in flight that wait for a slot or for the rate limit.
        calls: the number of calls that ended.
        attempts: the number of attempts sent for the calls that ended.
        outcomes: the number of ended calls of each kind; kinds without a call are left out.
        slots: the slots of each partition: their number, those in use, and the calls waiting.
        allowances: the rate limits of each partition, with what is left, the queue and the gate.
        account: the rate limit over all partitions; None without one.
        circuits: the state and the counts of each partition's circuit.
        budget: the retry budget; None without one.
        draining: whether new calls are refused.
        hedges: the second attempts of each partition; empty without a `Hedge`.
        fallbacks: what went to each target instead, by its name; empty without a `Fallback`.
    """

    in_flight: int
    waiting: int
    calls: int
    attempts: int
    outcomes: Mapping[Kind, int]
    slots: Mapping[str | None, SlotsStatistics]
    allowances: Mapping[str | None, AllowanceStatistics]
    circuits: Mapping[str | None, CircuitStatistics]
    budget: RetryBudgetStatistics | None
    draining: bool
    account: AllowanceStatistics | None = None
    hedges: Mapping[str | None, HedgeStatistics] = field(default_factory=dict)
    fallbacks: Mapping[str, FallbackStatistics] = field(default_factory=dict)


def statistics_of(layers: Sequence[Any], *, now: float, **counts: Any) -> StackStatistics:
    """Return a snapshot of a stack.

    Args:
        layers: the layers of the stack.
        now: the loop time, in seconds.
        counts: the fields of `StackStatistics` that the stack itself counts, by name.
    """
    slots: dict[str | None, SlotsStatistics] = {}
    allowances: dict[str | None, AllowanceStatistics] = {}
    circuits: dict[str | None, CircuitStatistics] = {}
    hedges: dict[str | None, HedgeStatistics] = {}
    fallbacks: dict[str, FallbackStatistics] = {}
    budget: RetryBudgetStatistics | None = None
    account: AllowanceStatistics | None = None
    waiting = 0
    for layer in layers:
        if isinstance(layer, ConcurrencyLimiter):
            here = layer.statistics(now)
            waiting += sum(each.waiting for each in here.values())
            slots = {**here, **slots}
        elif isinstance(layer, RateLimiter):
            allowances = layer.statistics(now)
            account = None if layer.account is None else layer.account.statistics(now)
            waiting += sum(each.waiting for each in allowances.values())
        elif isinstance(layer, CircuitBreaker):
            circuits = layer.statistics(now)
        elif isinstance(layer, Hedge):
            hedges = layer.statistics(now)
        elif isinstance(layer, Fallback):
            fallbacks = layer.statistics()
        elif isinstance(layer, Retry) and layer.budget is not None:
            budget = layer.budget.statistics()
    return StackStatistics(
        waiting=waiting,
        slots=slots,
        allowances=allowances,
        circuits=circuits,
        budget=budget,
        account=account,
        hedges=hedges,
        fallbacks=fallbacks,
        **counts,
    )


def describe(layers: Sequence[Any]) -> str:
    """Return a table of the layers, outermost first, and below it the worst case."""
    names = [_name(layer) for layer in layers]
    width = max((len(name) for name in names), default=0)
    lines = [f"Stack of {len(layers)} layers, outermost first"]
    for number, (name, layer) in enumerate(zip(names, layers, strict=True), 1):
        describe_layer = getattr(layer, "describe", None)
        text = describe_layer() if describe_layer else "custom layer"
        lines.append(f"  {number}  {name:<{width}}  {text}".rstrip())
    lines += [f"  {line}" for line in _worst_case_lines(layers)]
    return "\n".join(lines)


def _name(layer: Any) -> str:
    return getattr(layer, "__name__", None) or type(layer).__name__


def _free_waits(retry: Retry) -> Iterator[str]:
    rule = retry.schedule.rule(Kind.RATE_LIMITED)
    waits = ["for an open circuit"] if retry.schedule.wait_out_refusals else []
    waits += ["after a 429"] if rule is not None and not rule.counted else []
    if waits:
        yield f"waiting {' or '.join(waits)} does not use up attempts"


def _worst_case_lines(layers: Sequence[Any]) -> Iterator[str]:
    retry = next((x for x in layers if isinstance(x, Retry)), None)
    timeout = next((x for x in layers if isinstance(x, AttemptTimeout)), None)
    fallback = next((x for x in layers if isinstance(x, Fallback)), None)
    deadline = next((x.seconds for x in layers if isinstance(x, Deadline)), None)
    attempts = retry.schedule.max_attempts if retry else 1
    backoff = retry.schedule.longest_wait(counted=True) if retry else 0.0
    parts = [f"{attempts} attempt{'s' if attempts > 1 else ''}"]
    if timeout:
        parts[0] += f" of {timeout.seconds:g} s"
    if fallback:
        parts[0] += f" at each of {1 + len(fallback.targets)} targets"
    if backoff:
        parts.append(f"{backoff:.4g} s of backoff")
    parts.append("the waits for slots and rate")
    bound = "" if deadline is None else f"; limited by the {deadline:g} s deadline"
    yield f"worst case: {', '.join(parts)}{bound}"
    if retry:
        yield f"a Retry-After hint of up to {retry.schedule.max_hint:g} s replaces the backoff"
        yield from _free_waits(retry)
    rate = next((x for x in layers if isinstance(x, RateLimiter)), None)
    span = 60.0 if deadline is None else deadline
    policies = [] if rate is None else [*rate.allowances.each_known()]
    limits = [each for each in (policy.admits_within(span) for policy in policies) if each]
    whole = None if rate is None or rate.account is None else rate.account.allowance
    total = None if whole is None else whole.admits_within(span)
    if total is not None:
        limits = [min(each, total) for each in limits] or [total]
    if limits:
        least = "" if min(limits) == max(limits) else " of the model with the least"
        within = (
            "in the first minute" if deadline is None else f"within the {deadline:g} s deadline"
        )
        calls = "1 call" if round(min(limits)) == 1 else f"{min(limits):,.0f} calls"
        yield f"up to {calls}{least} can be sent {within}"
