"""What a stack tells: in words, layer by layer with the worst case; in figures, what goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..circuit.circuit import CircuitStatistics
from ..circuit.layer import CircuitBreaker
from ..core.verdict import Kind
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
    """A snapshot of a stack. Mappings are by partition; a policy for all has the partition None.

    Attributes:
        in_flight: calls that entered and have not ended, open streams included.
        waiting: of those, the ones that wait for a slot or for the rate limit.
        calls: calls that ended.
        attempts: attempts that were sent for them.
        outcomes: how the calls ended, by kind.
        slots: limit, held and waiting.
        allowances: limits, what is left, the queue and the gate.
        circuits: states and counts.
        budget: the retry budget, or None.
        draining: whether new calls are refused.
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


def statistics_of(layers: Sequence[Any], *, now: float, **counts: Any) -> StackStatistics:
    """Return a snapshot of a stack.

    Args:
        layers: the stack's.
        now: the current time of the loop.
        counts: what the stack itself counts: the other fields of `StackStatistics`.
    """
    slots: dict[str | None, SlotsStatistics] = {}
    allowances: dict[str | None, AllowanceStatistics] = {}
    circuits: dict[str | None, CircuitStatistics] = {}
    budget: RetryBudgetStatistics | None = None
    waiting = 0
    for layer in layers:
        if isinstance(layer, ConcurrencyLimiter):
            here = layer.statistics(now)
            waiting += sum(each.waiting for each in here.values())
            slots = {**here, **slots}
        elif isinstance(layer, RateLimiter):
            allowances = layer.statistics(now)
            waiting += sum(each.waiting for each in allowances.values())
        elif isinstance(layer, CircuitBreaker):
            circuits = layer.statistics(now)
        elif isinstance(layer, Retry) and layer.budget is not None:
            budget = layer.budget.statistics()
    return StackStatistics(
        waiting=waiting,
        slots=slots,
        allowances=allowances,
        circuits=circuits,
        budget=budget,
        **counts,
    )


def describe(layers: Sequence[Any]) -> str:
    """Return a table of the layers, outermost first, and the arithmetic below it."""
    names = [_name(layer) for layer in layers]
    width = max((len(name) for name in names), default=0)
    lines = [f"Stack of {len(layers)} layers, outermost first"]
    for number, (name, layer) in enumerate(zip(names, layers, strict=True), 1):
        tell = getattr(layer, "describe", None)
        lines.append(f"  {number}  {name:<{width}}  {tell() if tell else 'your own'}".rstrip())
    lines += [f"  {line}" for line in _arithmetic(layers)]
    return "\n".join(lines)


def _name(layer: Any) -> str:
    return getattr(layer, "__name__", None) or type(layer).__name__


def _arithmetic(layers: Sequence[Any]) -> Iterator[str]:
    retry = next((x for x in layers if isinstance(x, Retry)), None)
    timeout = next((x for x in layers if isinstance(x, AttemptTimeout)), None)
    deadline = next((x.seconds for x in layers if isinstance(x, Deadline)), None)
    attempts = retry.schedule.max_attempts if retry else 1
    backoff = retry.schedule.longest_wait(counted=True) if retry else 0.0
    parts = [f"{attempts} attempt{'s' if attempts > 1 else ''}"]
    if timeout:
        parts[0] += f" of {timeout.seconds:g} s"
    if backoff:
        parts.append(f"{backoff:.4g} s of backoff")
    parts.append("the waits for slots and rate")
    cut = "" if deadline is None else f"; cut at {deadline:g} s"
    yield f"worst case: {', '.join(parts)}{cut}"
    if retry:
        yield f"a server's hint, up to {retry.schedule.max_hint:g} s, takes the place of a backoff"
    if retry and retry.schedule.wait_out_refusals:
        yield "an open circuit and 429s are waited out, and use up no attempts"
    rate = next((x for x in layers if isinstance(x, RateLimiter)), None)
    span = 60.0 if deadline is None else deadline
    admitted = rate.allowances.sample().admits_within(span) if rate else None
    if admitted is None:
        return
    if deadline is None:
        yield f"at this rate {admitted:,.0f} calls are sent in the first minute"
    else:
        yield (
            f"at this rate at most {admitted:,.0f} calls can be sent within a deadline of "
            f"{deadline:g} s"
        )
