"""When to stop sending to a server that fails, and how to find out that it has recovered.

The state machine has three states and one table of transitions, `TRANSITIONS`; the diagram in the
documentation is drawn from it. Two races are closed here that every circuit breaker in common use
leaves open:

1. A result can arrive after the state has changed. A slow success from before an outage must not
   close the circuit, and a late failure must not open it again. So a permit belongs to an *epoch*,
   the time between two transitions. A result from an earlier epoch is counted as `late` and changes
   nothing.
2. A probe can be lost: it hangs, say, and no result ever arrives. A half-open circuit that waits
   for it is stuck. So a probe is a *lease* with an end. At most `probes` leases are out at a
   time, and a lease that has ended makes room for another probe.

Michael Nygard, "Release It!", chapter "Circuit Breaker".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..core import bounds
from ..core.shared import Shared
from .window import Window


class State(StrEnum):
    """The state of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_CLOSED, _OPEN = State.CLOSED, State.OPEN  # looking up a member costs ten times as much


class Trigger(StrEnum):
    """The reason for a change of state."""

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
"""The whole state machine; a pair that is not in it cannot occur."""

PROBE_POLLS = 10
"""A call that is refused because all probes are in flight gets ``retry_after = open_for /
PROBE_POLLS``.
"""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, and its reason."""

    previous: State
    state: State
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class CircuitStatistics:
    """A snapshot: the state, the window's counts, and the number of results that came too late.

    `opened` is how often the circuit has opened. `rest` is the seconds that it stays open; it is 0
    if it is not open, or if the snapshot was made without the current time.
    """

    state: State
    successes: int
    failures: int
    probes_out: int
    late: int
    opened: int
    rest: float = 0.0


class Permit:
    """Permission to send one attempt; every permit must end in `record` or `drop`.

    All ordinary calls between two transitions share one permit, so its identity is the epoch. Each
    probe has a permit of its own.

    Attributes:
        expires: the instant at which a probe's lease ends, or None for an ordinary call.
    """

    __slots__ = ("expires",)

    def __init__(self, expires: float | None = None) -> None:
        self.expires = expires


class Circuit(Shared):
    """The state machine of a circuit breaker.

    Args:
        failure_ratio: the circuit opens if this share of the calls in the window failed, in (0, 1];
            0.5.
        minimum_calls: and if the window has at least this number of calls, from 1; 20, so that two
            failures in a quiet night do not open it.
        window: seconds over which the share is taken, above 0; 10.
        consecutive_failures: the circuit also opens after this number of failures in a row, however
            long they took, from 1, or None; 20, for a slow server that never fills the window.
        open_for: seconds that an open circuit waits before it probes, above 0; 10.
        probes: the number of probes, from 1; all must succeed to close the circuit; 3.
        probe_lease: seconds after which a probe without a result counts as lost, above 0; 120,
            longer than any attempt.

    Raises:
        ConfigurationError: a value is out of its range.

    Attributes:
        last_transition: the last change of state, or None before the first one.
        answered: whether any call has ever succeeded. A server that has never answered is not in an
            outage; its address is probably wrong.

    State: shared by every `CircuitBreaker` that is given the object.
    """

    __slots__ = ("__weakref__", "_consecutive", "_late", "_leases", "_opened",
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
        self._permit = Permit()  # of all ordinary calls of this epoch; `_move` makes a new one
        self._window = Window(window)
        self._consecutive = 0
        self._opened_at = 0.0
        self._leases: list[Permit] = []  # probes that are in flight, or lost and not yet noticed
        self._probed = 0  # probes that have succeeded since the circuit became half-open
        self._late = self._opened = 0

    @property
    def state(self) -> State:
        """The state, as of the last `admit`, `record` or `drop`."""
        return self._state

    @property
    def busy(self) -> bool:
        """Always False: a circuit holds nothing that only its own loop can give back."""
        return False

    def in_use(self, now: float) -> bool:
        """Whether it protects a server, so that `Keyed` must not drop it.

        Only until it has rested or its probes' leases have ended: a circuit that nobody asks again
        would otherwise be in use for ever.
        """
        if self._state is State.OPEN:
            return now < self._opened_at + self.open_for
        return any(each.expires is None or each.expires > now for each in self._leases)

    def idle(self, now: float) -> bool:
        """Whether dropping it loses nothing: it is closed, and counts no failure any more."""
        if self._state is not State.CLOSED or self._consecutive:
            return False
        self._window.forget(now)
        return self._window.empty

    def admit(self, now: float) -> Permit | None:
        """Ask to send one attempt now; return a permit, or None if the attempt is refused."""
        if self._state is _CLOSED:
            return self._permit
        if self._state is _OPEN:
            if now < self._opened_at + self.open_for:
                return None
            self._move(Trigger.RESTED, now)
        return self._admit_probe(now)

    def retry_after(self, now: float) -> float:
        """Return the seconds, above 0, after which a refused call should try again."""
        if self._state is State.OPEN:
            return max(1e-3, self._opened_at + self.open_for - now)
        return self.open_for / PROBE_POLLS

    def record(self, permit: Permit, now: float, *, success: bool) -> None:
        """End a permit with the result of its attempt."""
        # There are three cases:
        # 1. An ordinary call of this epoch: the window counts it, and a failure may open the
        #    circuit.
        # 2. A probe of this epoch: it may close the circuit, or open it again.
        # 3. Anything else, of an earlier epoch or with a lease that was given up: it is only
        #    counted.
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
        else:
            self._late += 1

    def drop(self, permit: Permit) -> None:
        """End a permit without a result (cancelled, refused); a probe makes room for another."""
        if permit in self._leases:
            self._leases.remove(permit)

    def abandon(self) -> None:
        """Begin a new epoch, because the event loop was closed: its calls decide nothing more."""
        self._permit = Permit()
        self._leases = []

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to every stored instant, because the clock has changed."""
        self._opened_at += seconds
        for permit in self._leases:
            assert permit.expires is not None
            permit.expires += seconds
        self._window.clear()  # the edges of its slices are instants of the old clock

    def statistics(self, now: float | None = None) -> CircuitStatistics:
        """Return a frozen snapshot; `now` is needed only for `rest`."""
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
        # A lease that has ended is a lost probe: forget it. The limit counts the probes that have
        # succeeded too, so that a circuit needs exactly `probes` of them to close.
        self._leases = [p for p in self._leases if p.expires is None or p.expires > now]
        if self._probed + len(self._leases) >= self.probes:
            return None
        permit = Permit(now + self.probe_lease)
        self._leases.append(permit)
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
        # A new epoch: no permit that is out now equals `_permit` or is in `_leases` any more.
        self._permit = Permit()
        self._leases = []
        self._probed = self._consecutive = 0
        if self._state is State.OPEN:
            self._opened += 1
            self._opened_at = now
            self._window.clear()

    def __repr__(self) -> str:
        return f"<Circuit {self._state}>"

    def __str__(self) -> str:
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
