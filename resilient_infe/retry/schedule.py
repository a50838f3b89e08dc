"""Whether and when to try again: the decision that `Retry` carries out.

Per kind of outcome, because the reference asks for different things: a 429 waits at least 1 s, then
2 s, then 4 s; a 500 gets at most 3 retries; a 502 backs off; a 401 is never tried again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..core import bounds
from ..core.verdict import Kind, Verdict
from .backoff import ExponentialBackoff

HINT_SPREAD = 0.1
"""Jitter on top of a hint, as a share of it: waiters must not wake together."""

HINT_SPREAD_FLOOR = 0.1
"""Seconds of jitter on top of even a short hint."""


@dataclass(frozen=True, slots=True)
class KindRule:
    """How one kind of outcome is tried again.

    Args:
        backoff: the delays, or None for those of the table (429) or of the `Retry` itself.
        max_retries: retries for outcomes of this kind, or None for no bound but `max_attempts`.
        counted: whether such an attempt uses up one of `max_attempts`.
    """

    backoff: ExponentialBackoff | None = None
    max_retries: int | None = None
    counted: bool = True


RULES: dict[Kind, KindRule] = {
    Kind.RATE_LIMITED: KindRule(ExponentialBackoff(1.0, 2.0, 60.0, "additive")),
    Kind.OVERLOADED: KindRule(),
    Kind.SERVER_ERROR: KindRule(max_retries=3),
    Kind.TRANSIENT: KindRule(),
    Kind.TIMEOUT: KindRule(),
}
"""The reference's table; a kind that is not here is never tried again."""

STATUS_RETRIES: dict[int, int] = {425: 1}
"""Statuses with a bound of their own (RFC 8470 section 5.2: retry a 425 once)."""


@dataclass(slots=True)
class Progress:
    """What one call has been through. State: per call, made at its first failure."""

    counted: int = 0
    retries: dict[Kind, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    previous: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Try again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not try again; `reason` completes "gave up: ...", None where nothing was to retry."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The rules of a `Retry`.

    Args:
        max_attempts: attempts in all, the first included, from 1; 6.
        backoff: the delays of kinds without their own.
        rules: per kind; what is given here replaces the reference's table for that kind, and None
            means never.
        max_hint: seconds; a longer hint ends the call instead of holding it; 300.
        wait_out_refusals: whether the stack's own refusals are waited out when they say how long.

    Raises:
        ConfigurationError: a value is out of its range.

    State: none; what a call has been through is in its `Progress`.
    """

    max_attempts: int = 6
    backoff: ExponentialBackoff = field(default_factory=ExponentialBackoff)
    rules: Mapping[Kind, KindRule | None] = field(default_factory=dict)
    max_hint: float = 300.0
    wait_out_refusals: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        bounds.whole(self.max_attempts, 1, "max_attempts, which counts the first,")
        bounds.positive(self.max_hint, "max_hint, in seconds,")
        instead = "ExponentialBackoff(...)"
        bounds.instance(self.backoff, ExponentialBackoff, "backoff", instead)
        for kind, rule in self.rules.items():
            bounds.instance(kind, Kind, "rules", "kinds, like Kind.SERVER_ERROR, as keys")
            if rule is not None:
                bounds.instance(rule, KindRule, "rules", "KindRule(...) or None for each kind")

    def rule(self, kind: Kind) -> KindRule | None:
        """Return the rule of a kind, its backoff filled in, or None for never."""
        usual = RULES.get(kind)
        rule = self.rules.get(kind, usual)
        if rule is None or rule.backoff is not None:
            return rule
        own = usual.backoff if usual is not None else None
        return replace(rule, backoff=own or self.backoff)

    def decide(
        self,
        verdict: Verdict,
        progress: Progress,
        now: float,
        deadline: float | None,
        u: float,
        *,
        probe: bool = False,
    ) -> Wait | Stop:
        """Return what to do after an attempt.

        Args:
            verdict: what the attempt meant.
            progress: what the call has been through; noted in here.
            now: the instant.
            deadline: the instant by which the call must be over, or None.
            u: a random number in [0, 1).
            probe: whether the attempt was a half-open circuit's probe. Where refusals are waited
                out, a failed probe uses up no attempt: the oldest calls are always the probes, and
                a long outage would otherwise end them one after the other.
        """
        if verdict.kind is Kind.REFUSED:
            decision = self._after_refusal(verdict, u)
        else:
            free = probe and self.wait_out_refusals
            decision = self._after_attempt(verdict, progress, u, free=free)
        if isinstance(decision, Stop) or deadline is None or now + decision.delay < deadline:
            return decision
        return Stop(
            f"the next attempt could start in {decision.delay:.3g} s at the earliest, and "
            f"{max(0.0, deadline - now):.3g} s remain until the deadline"
        )

    def _after_refusal(self, verdict: Verdict, u: float) -> Wait | Stop:
        if not self.wait_out_refusals or verdict.retry_after is None:
            return Stop()
        return Wait(_above(verdict.retry_after, u))

    def _after_attempt(
        self, verdict: Verdict, progress: Progress, u: float, *, free: bool
    ) -> Wait | Stop:
        rule = self.rule(verdict.kind)
        if rule is None or not verdict.retryable:
            return Stop()
        made = progress.retries.get(verdict.kind, 0) + 1
        stop = None if free else self._used_up(verdict, rule, progress, made)
        if stop is not None:
            return stop
        hint = verdict.retry_after
        if hint is not None and hint > self.max_hint:
            return Stop(f"the server asks to wait {hint:.6g} s, over max_hint={self.max_hint:g} s")
        assert rule.backoff is not None
        progress.previous = rule.backoff.delay(made, u, progress.previous)
        return Wait(progress.previous if hint is None else _above(hint, u))

    def _used_up(
        self, verdict: Verdict, rule: KindRule, progress: Progress, made: int
    ) -> Stop | None:
        """Count a failed attempt, and return why it was the last one, if it was."""
        progress.retries[verdict.kind] = made
        progress.counted += rule.counted
        if rule.max_retries is not None and made > rule.max_retries:
            return Stop(f"{rule.max_retries} retries are the most for {verdict.kind}")
        status = verdict.status or 0
        bound = None if verdict.kind in self.rules else STATUS_RETRIES.get(status)
        if bound is not None:
            seen = progress.statuses[status] = progress.statuses.get(status, 0) + 1
            if seen > bound:
                return Stop(f"{bound} retry is the most for status {status}")
        if progress.counted >= self.max_attempts:
            return Stop(f"max_attempts={self.max_attempts} reached")
        return None

    def longest_wait(self, *, counted: bool = False) -> float:
        """Return the longest that one call can spend in backoff where the server gives no hint.

        Args:
            counted: leave out the kinds that use up no attempts, which may be waited for for ever.
        """
        rules = [rule for rule in map(self.rule, Kind) if rule is not None]
        if not counted and any(not rule.counted and rule.max_retries is None for rule in rules):
            return math.inf
        worst = 0.0
        for retry in range(1, self.max_attempts):
            longest = (
                rule.backoff.longest(retry)
                for rule in rules
                if rule.backoff is not None
                and rule.counted
                and (rule.max_retries is None or retry <= rule.max_retries or len(rules) > 1)
            )
            worst += max(longest, default=0.0)
        return worst


def _above(hint: float, u: float) -> float:
    """Return a wait that is never shorter than the hint."""
    return hint + u * max(HINT_SPREAD * hint, HINT_SPREAD_FLOOR)
