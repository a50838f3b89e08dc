"""When to stop sending to a server that fails, and how to find out that it has recovered.

The states and the table of transitions are in `states`. Three things are done here that most
circuit breakers in common use leave out:

1. A result can arrive after the state has changed. A slow success from before an outage must not
   close the circuit, and a late failure must not open it again. So a permit belongs to an *epoch*,
   the time between two transitions. A result from an earlier epoch is counted as `late` and changes
   nothing. (Closed and throttled are one epoch: both judge the same traffic.)
2. A probe can be lost: it hangs, say, and no result ever arrives. A half-open circuit that waits
   for it is stuck. So a probe is a *lease* with an end. At most `probes` leases are out at a
   time, and a lease that has ended makes room for another probe.
3. A server may fail in part. While some attempts succeed, a circuit with `throttle_below` does not
   open but is *throttled*: it refuses a share of the attempts, see `throttle`.

Michael Nygard, "Release It!", chapter "Circuit Breaker".
"""

from __future__ import annotations

import math

from ..core import bounds
from ..core.shared import Shared
from .permit import Permit
from .snapshot import CircuitStatistics
from .states import TRANSITIONS, State, Transition, Trigger
from .throttle import QUICK, is_over, refused_share
from .window import Window

_CLOSED, _OPEN = State.CLOSED, State.OPEN  # looking up a member costs ten times as much

PROBE_POLLS = 10
"""A call that is refused while some attempts are sent (all probes are in flight, or the circuit is
throttled) gets ``retry_after = open_for / PROBE_POLLS``.
"""


class Circuit(Shared):
    """The state machine of a circuit breaker.

    Args:
        failure_ratio: the circuit opens if this share of the calls in the window failed, in (0, 1];
            0.5. (With `throttle_below`, only if nothing succeeded for this share of the window.)
        minimum_calls: and if the window has at least this number of calls, from 1; 20, so that two
            failures in a quiet night do not open it.
        window: seconds over which the share is taken, above 0; 10.
        consecutive_failures: the circuit also opens after this number of failures in a row, however
            long they took, from 1, or None; 20, for a slow server that never fills the window.
        open_for: seconds that an open circuit waits before it probes, above 0; 10.
        probes: the number of probes, from 1; all must succeed to close the circuit; 3.
        probe_lease: seconds after which a probe without a result counts as lost, above 0; 120,
            longer than any attempt.
        throttle_below: lets a share through, in (0, 1], or None to open instead; None. A throttled
            circuit refuses some attempts if less than this share of those sent succeed. The presets
            use 0.4: a server that sheds half of its load is sent everything.
        slow_after: seconds after which a success counts as a failure, above 0, or None; None,
            because an answer's time depends on its length. A stream is timed to its first chunk.
        shadow: whether to refuse nothing, and only report what the circuit would do; False. An
            attempt that it would have refused is sent and not counted.

    Raises:
        ConfigurationError: a value is out of its range.

    Attributes:
        state: the state, as of the last `admit`, `record` or `drop`.
        reported: the last transition that a layer has reported as an event.
        last_transition: the last change of state, or None before the first one.
        answered: whether any call has ever succeeded. A server that has never answered is not in an
            outage; its address is probably wrong.

    State: shared by every `CircuitBreaker` that is given the object.
    """

    __slots__ = ("__weakref__", "_consecutive", "_late", "_leases", "_opened", "_opened_at",
                 "_out", "_passed_at", "_permit", "_probed", "_refused", "_row_began", "_siblings",
                 "_uncounted", "_window", "answered", "consecutive_failures",
                 "failure_ratio", "last_transition", "minimum_calls", "open_for", "probe_lease",
                 "probes", "reported", "shadow", "slow_after", "state", "throttle_below",
                 "window")  # fmt: skip

    def __init__(
        self,
        failure_ratio: float = 0.5,
        minimum_calls: int = 20,
        window: float = 10.0,
        consecutive_failures: int | None = 20,
        open_for: float = 10.0,
        probes: int = 3,
        probe_lease: float = 120.0,
        throttle_below: float | None = None,
        slow_after: float | None = None,
        shadow: bool = False,
    ) -> None:
        bounds.share(failure_ratio, "failure_ratio")
        bounds.whole(minimum_calls, 1, "minimum_calls")
        bounds.whole(probes, 1, "probes")
        if consecutive_failures is not None:
            bounds.whole(consecutive_failures, 1, "consecutive_failures")
        if throttle_below is not None:
            bounds.share(throttle_below, "throttle_below")
        if slow_after is not None:
            bounds.positive(slow_after, "slow_after, in seconds,")
        for what, seconds in (("window", window), ("open_for", open_for), ("lease", probe_lease)):
            bounds.positive(seconds, f"{what}, in seconds,")
        self.failure_ratio = failure_ratio
        self.minimum_calls = minimum_calls
        self.window = window
        self.consecutive_failures = consecutive_failures
        self.open_for = open_for
        self.probes = probes
        self.probe_lease = probe_lease
        self.throttle_below = throttle_below
        self.slow_after = slow_after
        self.shadow = shadow
        self.last_transition: Transition | None = None
        self.reported: Transition | None = None
        self.answered = False
        self.state = State.CLOSED
        self._permit = Permit()  # of all ordinary calls of this epoch; `_move` makes a new one
        self._window = Window(window)
        self._consecutive = 0
        self._opened_at = 0.0
        self._row_began = 0.0  # when the first of the consecutive failures was
        self._leases: list[Permit] = []  # probes that are in flight, or lost and not yet noticed
        self._probed = 0  # probes that have succeeded since the circuit became half-open
        self._siblings: list[Permit] = []  # probes sent together with the one that failed last
        self._uncounted = Permit()  # of attempts that a shadow would refuse: none is recorded
        self._passed_at = -math.inf  # when an ordinary call last succeeded
        self._late = self._opened = self._refused = self._out = 0

    @property
    def _share_refused(self) -> float:
        if self.state is not State.THROTTLED or self.throttle_below is None:
            return 0.0
        return refused_share(self._window.successes, self._window.failures, self.throttle_below)

    @property
    def busy(self) -> bool:
        """Always False: a circuit holds nothing that only its own loop can give back."""
        return False

    def in_use(self, now: float) -> bool:
        """Whether `Keyed` must not drop it: until it has rested, or its leases have ended."""
        if self.state in (State.FORCED_OPEN, State.FORCED_CLOSED):
            return True
        if self.state is State.OPEN:
            return now < self._opened_at + self.open_for
        return any(each.expires is None or each.expires > now for each in self._leases)

    def idle(self, now: float) -> bool:
        """Whether dropping it loses nothing: it lets all through, and counts no failure."""
        if self.state not in (State.CLOSED, State.THROTTLED) or self._consecutive:
            return False
        self._window.forget(now)
        return self._window.empty

    def admit(self, now: float, u: float = 1.0) -> Permit | None:
        """Ask to send one attempt now; return a permit, or None if the attempt is refused.

        Args:
            now: the current time.
            u: a random number in [0, 1], which decides in a throttled circuit; 1 is never refused.
        """
        if self.state is _CLOSED:
            self._out += 1
            return self._permit
        permit = self._admit(now, u)
        if permit is not None:
            self._out += permit is self._permit
            return permit
        self._refused += 1
        return self._uncounted if self.shadow else None

    def _admit(self, now: float, u: float) -> Permit | None:
        # There are four cases besides the closed circuit:
        # 1. Forced: all or nothing.
        # 2. Throttled: it closes if the failures have become few, else it refuses a share.
        # 3. Open: nothing until it has rested; then it is half-open.
        # 4. Half-open: a probe, if one may go.
        if self.state is State.FORCED_CLOSED:
            return self._permit
        if self.state is State.FORCED_OPEN:
            return None
        if self.state is State.THROTTLED:
            self._window.forget(now)
            if is_over(self._window.successes, self._window.failures, self.failure_ratio):
                self._move(Trigger.FEWER_FAILURES, now)
            return None if u < self._share_refused else self._permit
        if self.state is _OPEN:
            if now < self._opened_at + self.open_for:
                return None
            self._move(Trigger.RESTED, now)
        return self._admit_probe(now)

    def retry_after(self, now: float) -> float:
        """Return the seconds, above 0, after which a refused call should try again."""
        if self.state is State.OPEN:
            return max(1e-3, self._opened_at + self.open_for - now)
        return self.open_for / PROBE_POLLS

    def record(self, permit: Permit, now: float, *, success: bool, took: float = 0.0) -> None:
        """End a permit with the result of its attempt.

        Args:
            permit: what `admit` returned.
            now: the current time.
            success: whether the attempt succeeded.
            took: the seconds that it took; a success of over `slow_after` is a failure.
        """
        # There are four cases:
        # 1. An ordinary call of this epoch: the window counts it, and a failure may open the
        #    circuit, or throttle it.
        # 2. A probe of this epoch: it may close the circuit, or open it again.
        # 3. A probe that was sent together with the one that opened the circuit again: if it
        #    succeeded, some attempts pass, and the circuit is throttled.
        # 4. Anything else, of an earlier epoch or with a lease that was given up: only counted.
        if success:
            self.answered = True
            success = self.slow_after is None or took <= self.slow_after
        if permit is self._permit:
            if not self._out:
                return  # a permit that was ended before
            self._out -= 1
            window = self._window
            if now >= window.end:
                window.move(now)
            if success:
                window.newest.successes += 1
                self._passed_at = now
                self._consecutive = 0
            else:
                window.newest.failures += 1
                self._consecutive += 1
                if self._consecutive == 1:
                    self._row_began = now
                self._trip_if_due(now)
        elif permit in self._leases:
            self._leases.remove(permit)
            self._record_probe(now, success=success)
        elif permit in self._siblings and success:
            self._throttle(now)
        elif permit is not self._uncounted:
            self._late += 1

    def drop(self, permit: Permit) -> None:
        """End a permit without a result (cancelled, refused); a probe makes room for another."""
        if permit is self._permit and self._out:
            self._out -= 1
        if permit in self._leases:
            self._leases.remove(permit)

    def force_open(self) -> None:
        """Refuse every attempt until `reset`."""
        self._force(State.FORCED_OPEN)

    def force_closed(self) -> None:
        """Let every attempt through, whatever its result, until `reset`."""
        self._force(State.FORCED_CLOSED)

    def reset(self) -> None:
        """Close the circuit and forget all that it has counted; undoes the two above."""
        self._force(State.CLOSED)

    def abandon(self) -> None:
        """Begin a new epoch, because the event loop was closed: its calls decide nothing more."""
        self._permit, self._out = Permit(), 0
        self._leases, self._siblings = [], []

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to every stored instant, because the clock has changed."""
        self._opened_at += seconds
        self._passed_at += seconds
        self._row_began += seconds
        for permit in self._leases:
            assert permit.expires is not None
            permit.expires += seconds
        self._window.clear()  # the edges of its slices are instants of the old clock

    def statistics(self, now: float | None = None) -> CircuitStatistics:
        """Return a frozen snapshot; `now` is needed only for `rest`."""
        resting = now is not None and self.state is State.OPEN
        return CircuitStatistics(
            self.state,
            self._window.successes,
            self._window.failures,
            len(self._leases),
            self._late,
            self._opened,
            self.retry_after(now) if now is not None and resting else 0.0,
            self._refused,
            self._share_refused,
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
        if success:
            self._passed_at = now
            self._probed += 1
            if self._probed >= self.probes:
                self._move(Trigger.PROBES_SUCCEEDED, now)
        elif self.throttle_below is not None and self._probed:
            self._throttle(now)
        else:
            siblings = self._leases if self.throttle_below is not None else []
            self._move(Trigger.PROBE_FAILED, now)
            self._siblings = siblings

    def _throttle(self, now: float) -> None:
        """Let a share through, because of the probes of one round one succeeded and one failed."""
        self._move(Trigger.PROBES_DIFFER, now)
        self._passed_at = now
        self._window.move(now)
        self._window.newest.successes += 1
        self._window.newest.failures += 1

    def _trip_if_due(self, now: float) -> None:
        if self.state is State.FORCED_CLOSED:
            return
        # Of a burst, quick failures come before the successes: they must outnumber what is out. But
        # not for longer than they would come: what is out may as well hang.
        is_burst = now - self._row_began <= QUICK and self._out >= self._consecutive
        if self.throttle_below and is_burst:
            return
        if self.consecutive_failures and self._consecutive >= self.consecutive_failures:
            self._move(Trigger.CONSECUTIVE_FAILURES, now)
            return
        self._window.forget(now)
        failures = self._window.failures
        calls = self._window.successes + failures
        if calls < self.minimum_calls or failures < self.failure_ratio * calls:
            return
        # In a steady flow, a dead server reaches the ratio when nothing has succeeded for this
        # share of the window. So it opens a throttling circuit no later.
        some_pass = now < self._passed_at + self.failure_ratio * self.window
        if self.throttle_below is None or not some_pass:
            self._move(Trigger.FAILURE_RATIO, now)
        elif self.state is State.CLOSED:
            self._move(Trigger.SOME_SUCCEED, now)

    def _force(self, state: State) -> None:
        self._enter(state, Trigger.BY_HAND)
        self._begin_epoch()
        self._window.clear()

    def _move(self, trigger: Trigger, now: float) -> None:
        self._enter(TRANSITIONS[self.state, trigger], trigger)
        if trigger in (Trigger.SOME_SUCCEED, Trigger.FEWER_FAILURES):
            return  # the same traffic goes on being judged: it is one epoch
        self._begin_epoch()
        if self.state is State.OPEN:
            self._opened += 1
            self._opened_at = now
            self._window.clear()

    def _enter(self, state: State, trigger: Trigger) -> None:
        self.last_transition = Transition(self.state, state, trigger)
        self.state = state

    def _begin_epoch(self) -> None:
        # No permit that is out now equals `_permit` or is in `_leases` any more.
        self._permit, self._out = Permit(), 0
        self._leases, self._siblings = [], []
        self._probed = self._consecutive = 0

    def __repr__(self) -> str:
        return f"<Circuit {self.state}>"

    def __str__(self) -> str:
        row = f" or {self.consecutive_failures} in a row" if self.consecutive_failures else ""
        share, shadow = self.throttle_below, ", as a shadow" if self.shadow else ""
        throttles = f", throttles below {share:.0%} successes" if share is not None else ""
        return (
            f"opens at {self.failure_ratio:.0%} failures of {self.minimum_calls}+ calls in "
            f"{self.window:g} s{row}{throttles}; rests {self.open_for:g} s, then {self.probes} "
            f"probes{shadow}"
        )
