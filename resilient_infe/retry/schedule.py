"""Whether to try again, and when: the decision that `Retry` carries out.

The decision depends on the kind of outcome, because the API's reference asks for different things:
a 429 waits at least 1 s, then 2 s, then 4 s; a 500 gets at most 3 retries; a 502 backs off; a 401
is never tried again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..core import bounds
from ..core.verdict import Kind, Verdict
from ..errors import DayUsedUp, SlotTaken
from .backoff import ExponentialBackoff

HINT_SPREAD = 0.1
"""Jitter added to a server's hint, as a share of the hint: waiters must not wake together."""

HINT_SPREAD_FLOOR = 0.1
"""Seconds; the jitter added to a short hint is drawn from at least this range."""


@dataclass(frozen=True, slots=True)
class KindRule:
    """How to retry one kind of outcome.

    Args:
        backoff: the delays. None means those of the reference's table (429 has its own), else those
            of the `Retry`.
        max_retries: the number of retries for outcomes of this kind, or None for no limit except
            `max_attempts`.
        counted: whether such an attempt uses up one of `max_attempts`; True.
    """

    backoff: ExponentialBackoff | None = None
    max_retries: int | None = None
    counted: bool = True


AT_ONCE = ExponentialBackoff(1e-9, 1.0, 1e-9, "none")
"""The server is well, and has answered: there is nothing to wait for but the rate limit."""

MOST_CHECKED = 10
"""Retries of one call for answers of a wrong form; `check_attempts` bounds them before that."""

RULES: dict[Kind, KindRule] = {
    Kind.RATE_LIMITED: KindRule(ExponentialBackoff(1.0, 2.0, 60.0, "additive")),
    Kind.OVERLOADED: KindRule(),
    Kind.SERVER_ERROR: KindRule(max_retries=3),
    Kind.TRANSIENT: KindRule(),
    Kind.TIMEOUT: KindRule(),
    Kind.MALFORMED: KindRule(AT_ONCE, max_retries=MOST_CHECKED, counted=False),
}
"""The reference's table; a kind that is not in it is never retried."""

STATUS_RETRIES: dict[int, int] = {425: 1}
"""Retries per status, for statuses with a limit of their own (RFC 8470 section 5.2: a 425 once)."""


@dataclass(slots=True)
class Progress:
    """What one call has used up. State: per call, made at its first failure.

    Attributes:
        counted: the attempts that count against `max_attempts`.
        retries: the failed attempts of each kind, which is also the number of its next retry.
        statuses: the failed attempts with each status in `STATUS_RETRIES`.
        previous: the last backoff delay in seconds, or None.
    """

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
    """Do not try again.

    Attributes:
        reason: completes "gave up: ..."; None if nothing was retryable.
        asked_too_long: the wait in seconds that the server asked for, if that is the reason.
    """

    reason: str | None = None
    asked_too_long: float | None = None


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The rules of a `Retry`.

    Args:
        max_attempts: attempts in all, including the first, from 1; 6.
        backoff: the delays of kinds without delays of their own.
        rules: per kind; a rule replaces the row of the reference's table, and None means never
            retry.
        max_hint: seconds; if the server asks to wait longer, the call ends instead; 300.
        wait_out_refusals: whether to wait when the stack itself refuses and says for how long;
            False.

    Raises:
        ConfigurationError: a value is out of its range.

    State: none; what a call has used up is in its `Progress`.
    """

    max_attempts: int = 6
    backoff: ExponentialBackoff = field(default_factory=ExponentialBackoff)
    rules: Mapping[Kind, KindRule | None] = field(default_factory=dict)
    max_hint: float = 300.0
    wait_out_refusals: bool = False
    _filled: dict[Kind, KindRule | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bounds.whole(self.max_attempts, 1, "max_attempts, which counts the first,")
        bounds.positive(self.max_hint, "max_hint, in seconds,")
        instead = "ExponentialBackoff(...)"
        bounds.instance(self.backoff, ExponentialBackoff, "backoff", instead)
        for kind, rule in self.rules.items():
            bounds.instance(kind, Kind, "rules", "kinds, like Kind.SERVER_ERROR, as keys")
            if rule is not None:
                bounds.instance(rule, KindRule, "rules", "KindRule(...) or None for each kind")

        object.__setattr__(self, "_filled", {kind: self._filled_in(kind) for kind in Kind})

    def rule(self, kind: Kind) -> KindRule | None:
        """Return the rule of a kind with its backoff filled in, or None for never retry."""
        return self._filled[kind]

    def _filled_in(self, kind: Kind) -> KindRule | None:
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
            progress: what the call has used up; this method updates it.
            now: the current time.
            deadline: the instant by which the call must have ended, or None.
            u: a random number in [0, 1).
            probe: whether the attempt was a probe of a half-open circuit. If refusals are waited
                out, a failed probe uses up no attempt. The oldest calls are always the probes, so a
                long outage would otherwise end them one after the other.
        """
        # There are two cases; in both, a wait must end before the deadline:
        # 1. The stack itself refused to send. Wait if the user allows it (`wait_out_refusals`) and
        #    the refusal says how long.
        # 2. The attempt was sent and failed. The rule of its kind decides.
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
        if verdict.error == SlotTaken.__name__:
            return Wait(0.0)  # it goes back to the queue for a slot, and waits there
        wait = verdict.retry_after
        if not self.wait_out_refusals or wait is None:
            return Stop()
        if verdict.error == DayUsedUp.__name__ and wait > self.max_hint:
            return Stop(
                f"a day is used up for {wait:.6g} s, over max_hint={self.max_hint:g} s", wait
            )
        return Wait(_above(wait, u))

    def _after_attempt(
        self, verdict: Verdict, progress: Progress, u: float, *, free: bool
    ) -> Wait | Stop:
        # 1. An outcome that is never retried ends the call, without a reason.
        rule = self.rule(verdict.kind)
        if rule is None or not verdict.retryable:
            return Stop()
        # 2. So does one that has used up a limit on attempts. A free probe uses up nothing.
        made = progress.retries.get(verdict.kind, 0) + 1
        stop = None if free else self._used_up(verdict, rule, progress, made)
        if stop is not None:
            return stop
        # 3. So does a hint that is too long. It is not shortened: that would ask too early.
        hint = verdict.retry_after
        if hint is not None and hint > self.max_hint:
            reason = f"the server asks to wait {hint:.6g} s, over max_hint={self.max_hint:g} s"
            return Stop(reason, hint)
        # 4. Else wait, for the hint if there is one, for the backoff if not. The backoff is drawn
        #    in either case: decorrelated jitter continues from it.
        assert rule.backoff is not None
        progress.previous = rule.backoff.delay(made, u, progress.previous)
        if hint is None:
            return Wait(progress.previous)
        # 5. A second 429 of one call may be about that call: its waits double, whatever the hint.
        again = made > 1 and verdict.kind is Kind.RATE_LIMITED
        return Wait(max(_above(hint, u), progress.previous if again else 0.0))

    def _used_up(
        self, verdict: Verdict, rule: KindRule, progress: Progress, made: int
    ) -> Stop | None:
        """Count a failed attempt; return the reason to stop if a limit is reached, else None."""
        # Three limits apply, in this order: retries of the kind, retries of the status (unless the
        # user gave a rule for the kind), and attempts in all.
        progress.retries[verdict.kind] = made
        progress.counted += rule.counted
        if rule.max_retries is not None and made > rule.max_retries:
            return Stop(f"max_retries={rule.max_retries} for {verdict.kind} reached")
        status = verdict.status or 0
        bound = None if verdict.kind in self.rules else STATUS_RETRIES.get(status)
        if bound is not None:
            seen = progress.statuses[status] = progress.statuses.get(status, 0) + 1
            if seen > bound:
                return Stop(f"max_retries={bound} for status {status} reached")
        if progress.counted >= self.max_attempts:
            return Stop(f"max_attempts={self.max_attempts} reached")
        return None

    def longest_wait(self, *, counted: bool = False) -> float:
        """Return the longest time that one call can spend in backoff if the server gives no hints.

        Args:
            counted: whether to leave out the kinds that use up no attempts; with False such a kind
                makes the result infinite, unless it has `max_retries`.
        """
        rules = [rule for rule in map(self.rule, Kind) if rule is not None]
        if not counted and any(not rule.counted and rule.max_retries is None for rule in rules):
            return math.inf
        # The kinds may fail in any order, so each retry can have the longest delay of any kind.
        # `max_retries` excludes a kind only if it is the only one: otherwise its few retries may
        # be the last ones.
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
        # Retries that use up no attempts come on top, each kind's up to its own limit.
        for rule in rules:
            if not (counted or rule.counted) and rule.backoff is not None:
                worst += sum(map(rule.backoff.longest, range(1, (rule.max_retries or 0) + 1)))
        return worst


def _above(hint: float, u: float) -> float:
    """Return a wait that is never shorter than the hint."""
    return hint + u * max(HINT_SPREAD * hint, HINT_SPREAD_FLOOR)
