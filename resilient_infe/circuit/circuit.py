"""When to stop sending to a server that is failing, and how to find out that it recovered.

The machine has three states and one table of transitions, `TRANSITIONS`; the documentation's
diagram is drawn from it. Two races are closed here, which every breaker in common use leaves open.
Results carry an *epoch*: a call admitted before a transition is counted but decides nothing. And a
probe is a *lease* with an end: at most `probes` are out, and one that is lost comes back by itself.

Michael Nygard, "Release It!", chapter "Circuit Breaker".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..core import bounds
from .window import Window


class State(StrEnum):
    """Where a circuit is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_CLOSED, _OPEN = State.CLOSED, State.OPEN  # a member's look-up costs ten times a global's


class Trigger(StrEnum):
    """What moves a circuit."""

    FAILURE_RATIO = "failure ratio reached"
    CONSECUTIVE_FAILURES = "too many failures in a row"
    RESTED = "open_for is over"
    PROBES_SUCCEEDED = "all probes succeeded"
    PROBE_FAILED = "a probe failed"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.CLOSED, Trigger.FAILURE_RATIO): State.OPEN,
    (State.CLOSED, Trigger.CONSECUTIVE_FAILURES): State.OPEN,
    (State.OPEN, Trigger.RESTED): State.HALF_OPEN,
    (State.HALF_OPEN, Trigger.PROBES_SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Trigger.PROBE_FAILED): State.OPEN,
}
"""The whole machine; a pair that is not here cannot happen."""

PROBE_POLLS = 10
"""A call refused while all probes are out is told to come back after `open_for` over this."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, and why."""

    previous: State
    state: State
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class CircuitStatistics:
    """A snapshot: the state, the window's counts, and the results that came too late to count.

    `rest` is how many seconds it stays open, if the instant was told.
    """

    state: State
    successes: int
    failures: int
    probes_out: int
    late: int
    opened: int
    rest: float = 0.0


class Permit:
    """Leave to send one attempt; it must end in `record` or `drop`.

    All ordinary traffic between two transitions has one permit, so the permit tells the epoch.

    Attributes:
        expires: when a probe's lease ends, or None for ordinary traffic.
    """

    __slots__ = ("expires",)

    def __init__(self, expires: float | None = None) -> None:
        self.expires = expires


class Circuit:
    """A circuit breaker's state machine.

    Args:
        failure_ratio: opens when this share of the window's calls failed, in (0, 1]; 0.5.
        minimum_calls: and at least this many calls are in the window, from 1; 20, so that two
            failures in a quiet night do not open it.
        window: seconds that the share is taken over, above 0; 10.
        consecutive_failures: opens after this many failures in a row however long they took, or
            None; 20, for a slow server that never fills the window.
        open_for: seconds to rest before probing, above 0; 10.
        probes: calls let through to probe, from 1; all must succeed to close; 3.
        probe_lease: seconds after which a probe with no result is given up for lost, above 0;
            120, longer than any attempt.

    Raises:
        ConfigurationError: a value is out of its range.

    Attributes:
        last_transition: the last change of state, or None before the first.
        answered: whether any call ever succeeded: a server that never answered is not in an outage.

    State: shared by every `CircuitBreaker` that is given the object.
    """

    __slots__ = ("__weakref__", "_consecutive", "_in_flight", "_late", "_leases", "_opened",
                 "_opened_at", "_permit", "_probed", "_state", "_window", "answered",
                 "consecutive_failures", "failure_ratio", "last_transition",
                 "minimum_calls", "open_for", "probe_lease", "probes", "window")  # fmt: skip

    def __init__(
        self,
        failure_ratio: float = 0.5,
        minimum_calls: int = 20,
        window: float = 10.0,
        consecutive_failures: int | None = 20,
        open_for: float = 10.0,
        probes: int = 3,
        probe_lease: float = 120.0,
    ) -> None:
        """Start closed, with an empty window."""
        bounds.share(failure_ratio, "failure_ratio")
        bounds.whole(minimum_calls, 1, "minimum_calls")
        bounds.whole(probes, 1, "probes")
        if consecutive_failures is not None:
            bounds.whole(consecutive_failures, 1, "consecutive_failures")
        for what, seconds in (("window", window), ("open_for", open_for), ("lease", probe_lease)):
            bounds.positive(seconds, f"{what}, in seconds,")
        self.failure_ratio = failure_ratio
        self.minimum_calls = minimum_calls
        self.window = window
        self.consecutive_failures = consecutive_failures
        self.open_for = open_for
        self.probes = probes
        self.probe_lease = probe_lease
        self.last_transition: Transition | None = None
        self.answered = False
        self._state = State.CLOSED
        self._permit = Permit()
        self._window = Window(window)
        self._consecutive = 0
        self._opened_at = 0.0
        self._leases: list[Permit] = []
        self._probed = 0
        self._in_flight = self._late = self._opened = 0

    @property
    def state(self) -> State:
        """Where it is, as of the last `admit`, `record` or `drop`."""
        return self._state

    @property
    def busy(self) -> bool:
        """Whether something is held that only its own loop can give back: never."""
        return False

    def idle(self, now: float) -> bool:
        """Whether it is as good as new, so that `Keyed` may drop it."""
        if self._state is not State.CLOSED or self._in_flight:
            return False
        self._window.forget(now)
        return self._window.empty

    def admit(self, now: float) -> Permit | None:
        """Ask to send one attempt now: a permit, or None when it is refused."""
        if self._state is _CLOSED:
            self._in_flight += 1
            return self._permit
        if self._state is _OPEN:
            if now < self._opened_at + self.open_for:
                return None
            self._move(Trigger.RESTED, now)
        return self._admit_probe(now)

    def retry_after(self, now: float) -> float:
        """Return how many seconds from now a refused call should ask again; above 0."""
        if self._state is State.OPEN:
            return max(1e-3, self._opened_at + self.open_for - now)
        return self.open_for / PROBE_POLLS

    def record(self, permit: Permit, now: float, *, success: bool) -> None:
        """End a permit with a result."""
        self._in_flight -= 1
        if success:
            self.answered = True
        if permit is self._permit:
            window = self._window
            if now >= window.end:
                window.move(now)
            if success:
                window.newest.successes += 1
                self._consecutive = 0
            else:
                window.newest.failures += 1
                self._consecutive += 1
                self._trip_if_due(now)
        elif permit in self._leases:
            self._leases.remove(permit)
            self._record_probe(now, success=success)
        else:  # given before the last transition, or its lease has ended and its place is another's
            self._late += 1

    def drop(self, permit: Permit) -> None:
        """End a permit without a result (cancelled, refused): a probe's place comes back."""
        self._in_flight -= 1
        if permit in self._leases:
            self._leases.remove(permit)

    def rebase(self, seconds: float) -> None:
        """Move every stored instant by `seconds`, to follow another clock."""
        self._opened_at += seconds
        for permit in self._leases:
            assert permit.expires is not None
            permit.expires += seconds
        self._window.clear()  # its edges do not survive a change of clock

    def statistics(self, now: float | None = None) -> CircuitStatistics:
        """Return a frozen snapshot, of this instant if it is told."""
        resting = now is not None and self._state is State.OPEN
        return CircuitStatistics(
            self._state,
            self._window.successes,
            self._window.failures,
            len(self._leases),
            self._late,
            self._opened,
            self.retry_after(now) if now is not None and resting else 0.0,
        )

    def _admit_probe(self, now: float) -> Permit | None:
        self._leases = [p for p in self._leases if p.expires is None or p.expires > now]
        if self._probed + len(self._leases) >= self.probes:
            return None
        permit = Permit(now + self.probe_lease)
        self._leases.append(permit)
        self._in_flight += 1
        return permit

    def _record_probe(self, now: float, *, success: bool) -> None:
        if not success:
            self._move(Trigger.PROBE_FAILED, now)
            return
        self._probed += 1
        if self._probed >= self.probes:
            self._move(Trigger.PROBES_SUCCEEDED, now)

    def _trip_if_due(self, now: float) -> None:
        if self.consecutive_failures and self._consecutive >= self.consecutive_failures:
            self._move(Trigger.CONSECUTIVE_FAILURES, now)
            return
        self._window.forget(now)
        failures = self._window.failures
        calls = self._window.successes + failures
        if calls >= self.minimum_calls and failures >= self.failure_ratio * calls:
            self._move(Trigger.FAILURE_RATIO, now)

    def _move(self, trigger: Trigger, now: float) -> None:
        previous, self._state = self._state, TRANSITIONS[self._state, trigger]
        self.last_transition = Transition(previous, self._state, trigger)
        self._permit = Permit()
        self._leases = []
        self._probed = self._consecutive = 0
        if self._state is State.OPEN:
            self._opened += 1
            self._opened_at = now
            self._window.clear()

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Circuit {self._state}>"

    def __str__(self) -> str:
        """Say when it opens and how it probes."""
        row = f" or {self.consecutive_failures} in a row" if self.consecutive_failures else ""
        return (
            f"opens at {self.failure_ratio:.0%} failures of {self.minimum_calls}+ calls in "
            f"{self.window:g} s{row}; rests {self.open_for:g} s, then {self.probes} probes"
        )


def diagram() -> str:
    """Return the state machine as a Mermaid diagram, drawn from `TRANSITIONS`."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.CLOSED}"]
    lines += [f"    {old} --> {new}: {why}" for (old, why), new in TRANSITIONS.items()]
    return "\n".join(lines)
