"""Finds a limit on the calls in flight that the server has, but does not name.

HAProxy, nginx (``limit_conn``), Envoy and many servers bound the requests in progress, and answer
one more with a bare 503 or 429: without a hint, a rate limit header or a code. The status alone may
as well mean an overload, a rate limit, or nothing. The evidence is in what else was in flight::

    others      = the attempts in flight when an attempt is sent
    a limit n   = an attempt is let in if others < n, and refused if others >= n

A burst of 8 at a server with room for 2: six refusals in a row come from attempts with 2 or more
others, and none of those was let in. Refusals that are random, or about a rate, do not look like
this for long: attempts with few others are refused too, and attempts with many are let in.

There are three states:

1. UNKNOWN: all configured slots are in use. Refusals are counted that come in a row, with no
   attempt let in between that had as many others. `WITNESSES` of them set a limit, the fewest
   others among them, once no other attempt above it is still unanswered. A call counts once: ten
   rows that a server refuses for what they are would set a limit with their second attempts.
2. FOUND: the limit is in use. Refusals below it that come in a row, as in UNKNOWN, set a lower one:
   the server has less room than it had. If others below it are refused, more than a quarter as
   often as they are let in, it was an error: UNKNOWN, and twice as many witnesses next time.
3. TRYING: after a pause a quarter more is in use. Attempts above the old limit decide: as soon as
   more of them are refused than let in, back to FOUND, and the pause doubles, from `FIRST_PAUSE` to
   `LAST_PAUSE`. If two, and twice as many as are refused, are let in, the higher limit is FOUND and
   the next quarter is tried at once.

So an error is corrected within a few answers, a limit that was raised is followed, and a limit that
is right costs one refusal per pause. (150 calls to a server with room for two, 0.3 s each: 24 s and
5.7 % rejected; 328 s and 35 % without this. Random 503s at 8 %: 57 s instead of 54.)

Envoy's adaptive concurrency filter and Netflix's concurrency-limits find such a limit too, but from
the latency. That of an LLM depends on the length of its answer, so only refusals are read here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum

WITNESSES = 5
"""Refusals in a row that set a limit.

Each one more is another rejected call. They may be this few because an error is corrected soon, and
doubles them."""

MOST_WITNESSES = 96
"""The number of witnesses stops doubling here."""

FORGIVEN_AFTER = 600.0
"""Seconds after an error until `WITNESSES` are enough again."""

FIRST_PAUSE, LAST_PAUSE = 2.0, 60.0
"""Seconds between two trials: at first, and at most."""

LEAST_AGAINST, SHARE_AGAINST = 3, 0.25
"""Refusals below the limit that prove an error: at least 3, and over a quarter of those let in.

A server may refuse some for other reasons, at random, so one alone proves nothing."""

MEMORY = 20
"""Answers below the limit after which both of their counts are halved."""


class Stage(Enum):
    """What is known of the limit."""

    UNKNOWN = "unknown"
    FOUND = "found"
    TRYING = "trying"


class Crowd:
    """The attempts in flight of one server, and the limit on them, if one shows.

    Args:
        waiting: returns the number of calls that wait for a slot; by default none does.

    Attributes:
        in_flight: the attempts that were sent and have not ended.
        limit: the number of slots to use, or None if there is no reason to use fewer.
        most: the number of slots that was configured last, if it was changed while in use.
        proven: an attempt that is let in with at most this number of others changes nothing.
        stage: what is known of the limit.
        stalled: the calls that hold a slot and wait for the rate limit.
        on_moving: called when the last of these goes on; None if that matters to nobody.

    State: in the `Slots`.
    """

    __slots__ = ("_above", "_below", "_erred_at", "_found", "_lowest", "_most", "_pause", "_row",
                 "_try_at", "_waiting", "_witnesses", "in_flight", "limit", "most", "on_moving",
                 "proven", "stage", "stalled")  # fmt: skip

    def __init__(self, waiting: Callable[[], int] = int) -> None:
        self._waiting = waiting
        self.in_flight = self.stalled = 0
        self.on_moving: Callable[[], None] | None = None
        self.limit: int | None = None
        self.most: float = math.inf
        self.stage = Stage.UNKNOWN
        self._found = 0  # the limit, without what is being tried
        self._row, self._lowest = 0, math.inf  # refusals in a row, and the fewest others of one
        self._most = self.proven = -1  # others of an attempt that was let in
        self._below, self._above = [0, 0], [0, 0]  # let in and refused, with fewer others or more
        self._witnesses, self._erred_at = WITNESSES, -math.inf
        self._pause, self._try_at = FIRST_PAUSE, math.inf

    @property
    def queued(self) -> int:
        """The calls that wait for a slot."""
        return self._waiting()

    @property
    def full(self) -> bool:
        """Whether the limit, found or configured anew, allows no further attempt now."""
        in_flight = self.in_flight
        return in_flight >= self.most or (self.limit is not None and in_flight >= self.limit)

    def sent(self) -> int:
        """Count an attempt that is sent now; return the number of others in flight."""
        others = self.in_flight
        self.in_flight = others + 1
        return others

    def ended(self) -> None:
        """Stop counting an attempt that was sent."""
        self.in_flight -= 1

    def stall(self) -> None:
        """Count a call that holds a slot and waits for the rate limit."""
        self.stalled += 1

    def move(self) -> None:
        """Stop counting it: it goes on, or has left."""
        if self.stalled:  # it is 0 if the loop that the call waited in was closed
            self.stalled -= 1
            if not self.stalled and self.on_moving is not None:
                self.on_moving()

    def answered(
        self,
        others: int,
        now: float,
        *,
        refused: bool,
        excuse: bool = False,
        again: bool = False,
    ) -> bool:
        """Learn from an answer; return whether it is a refusal because too many were in flight.

        Args:
            others: what `sent` returned for the attempt, which has not `ended` yet.
            now: the current time.
            refused: whether it was refused by a bare 503 or 429; else it was let in.
            excuse: whether to return True on suspicion too, because a False costs more: if the
                attempt had more others than any that was let in.
            again: whether the call was sent before. If so, it is not a witness in UNKNOWN, because
                the server may refuse it for what it is.
        """
        if self.stage is Stage.UNKNOWN:
            if not refused:
                self._let_in(others)
                return False
            known = self._most if now > self._erred_at + FORGIVEN_AFTER else math.inf
            if not (again and others):
                self._refused(others, now)
            return excuse and others > max(0, known)
        above = others >= self._found
        (self._above if above else self._below)[refused] += 1
        if not above:
            self._judge_limit(others, now, refused=refused)
            return False
        if self.stage is Stage.TRYING:
            self._judge_trial(now)
        # While nothing was let in below the limit, the server may as well be down.
        return refused and (excuse or self._below[0] > 0)

    def try_more(self, now: float, configured: int) -> None:
        """Use a quarter more if it is time to; forget the limit if that is what is configured."""
        if self.stage is not Stage.FOUND or now < self._try_at:
            return
        if self._found >= configured:
            self._forget()
            return
        self.stage, self._above = Stage.TRYING, [0, 0]
        self.limit = min(configured, self._found + max(1, self._found // 4))

    def abandon(self) -> None:
        """Forget what is in flight, because the event loop was closed."""
        self.in_flight = self.stalled = 0
        self.on_moving = None

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self.on_moving = None  # it may belong to another loop
        self._try_at += seconds
        self._erred_at += seconds

    def _let_in(self, others: int) -> None:
        self._most = max(self._most, others)
        if others >= self._lowest or not self._row:
            self._end_row()

    def _refused(self, others: int, now: float) -> None:
        if others == 0:  # refused alone: others are not the reason
            self._end_row()
            return
        self.proven = -1
        self._row += 1
        self._lowest = min(self._lowest, others)
        if now > self._erred_at + FORGIVEN_AFTER:
            self._witnesses = WITNESSES
        if self._row < self._witnesses or self._unanswered(int(self._lowest)):
            return
        self._pause = FIRST_PAUSE
        self._find(int(self._lowest), now + self._pause)
        self._below = [0, 0]

    def _judge_limit(self, others: int, now: float, *, refused: bool) -> None:
        let_in, against = self._below
        if let_in + against > MEMORY:
            self._below = [let_in // 2, against // 2]
        if not refused:
            self._let_in(others)
            return
        found = self._found
        self._refused(others, now)
        if self._found < found:
            return  # the server has less room than it had
        most = found + self._witnesses
        if LEAST_AGAINST <= self._row <= most and self._unanswered(int(self._lowest)):
            return  # it may have less room: what is in flight will show
        if against >= LEAST_AGAINST and against > SHARE_AGAINST * let_in:
            self._give_up(now)

    def _judge_trial(self, now: float) -> None:
        let_in, refused = self._above
        assert self.limit is not None
        if refused > let_in + self._unanswered(self._found):
            self._pause = min(LAST_PAUSE, 2 * self._pause)
            self._find(self._found, now + self._pause)
        elif let_in >= max(2, 2 * refused):
            self._pause = FIRST_PAUSE
            self._find(self.limit, now)

    def _find(self, limit: int, try_at: float) -> None:
        self.stage, self._found, self.limit, self._try_at = Stage.FOUND, limit, limit, try_at
        self._most = min(self._most, limit - 1)  # it let in more when it had more room
        self._end_row()

    def _unanswered(self, limit: int) -> int:
        """Return how many of the others in flight would be refused under a limit."""
        return max(0, self.in_flight - 1 - limit)

    def _give_up(self, now: float) -> None:
        self._erred_at = now
        self._witnesses = min(MOST_WITNESSES, 2 * self._witnesses)
        self._forget()

    def _forget(self) -> None:
        self.stage, self.limit = Stage.UNKNOWN, None
        self._end_row()

    def _end_row(self) -> None:
        self._row, self._lowest = 0, math.inf
        self.proven = self._most if self.stage is Stage.UNKNOWN else -1
