"""The shared gate: when a server really asks to wait, all senders of its partition wait.

One call that is told to wait proves little: 429s can be random, or about that one request. So the
gate shuts at the third *witness* in a row. And a server that says 60 s may be ready after one. So
a shut gate asks: it lets a single call go as a *question*, and opens if that is let in.

For example, three calls are sent at 0, 0.1 and 0.2 s, and each is told to wait for 60 s. The third
answer, at 0.4 s, shuts the gate until 60.4 s. At 1.4 s one call goes. It is let in, so the gate
opens; had it been refused at 1.6 s, the next would go at 2.6 s.

What is in flight when the gate shuts may be a question already: a call that was sent after the
first witness was told to wait. If it is let in, not all calls are refused, and the gate opens. (Of
a server that refuses 16 % at random, with hints of 1 s, 79 % of the limit were used without this
rule, and 98 % with it.)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

WITNESSES = 3
"""Calls in a row that are told to wait, before all have to."""

FIRST_QUESTION = 1.0
"""Seconds from a refusal to the next question, in a short stop."""

QUESTION_SHARE = 0.2
"""The same as a share of the stop so far: an hour's stop has 41 questions."""

PATIENCE, LEAST_PATIENCE = 4.0, 0.5
"""A call that is not refused within 4 times what a refusal takes, and 0.5 s, was let in. Its answer
may take minutes, and would come too late to open a gate."""

SMOOTHING, LONGEST_REFUSAL = 0.2, 30.0
"""The weight of the latest refusal in the mean of what one takes; the longest counted, in seconds.
"""


@dataclass(frozen=True, slots=True)
class GateClosed:
    """A record that the gate closed for `delay` seconds, because of `reason`."""

    delay: float
    reason: str


class Gate:
    """Holds all senders back until a certain time.

    Attributes:
        until: the loop time at which the next call may go; in the past if the gate is open.
        ends: the loop time at which the gate opens whatever the questions meet.
        corrected_at: the loop time at which the gate last shut. A call that was sent before that
            did not know it, so its refusal changes nothing.
        reason: a short text on why the gate closed last; None if it never closed.
        watches: whether it has to hear of each call that is sent: `sent`.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("_asks_at", "_cause", "_first", "_noticed_at", "_question", "_refusal_takes",
                 "_stopped_at", "_unanswered", "_window", "_witnesses", "corrected_at", "ends",
                 "reason", "until", "watches")  # fmt: skip

    def __init__(self) -> None:
        self.until = self.ends = self.corrected_at = -math.inf
        self._window = -math.inf  # when the last window ends that the server stated as used up
        self.reason: str | None = None
        self.watches = False
        self._refusal_takes: float | None = None
        self._start_over()

    def _start_over(self) -> None:
        """Forget the witnesses: somebody was let in."""
        self._witnesses = 0
        self._first = math.inf  # when the first witness was sent
        self._noticed_at = math.inf  # when it was refused
        self._cause = math.inf  # when the last one was sent that shut the gate
        self._stopped_at = math.inf  # when the gate shut, of a stop in which nobody was let in
        self._asks_at = math.inf  # when the next question of that stop may go
        self._question = math.inf  # when the last question of that stop was sent
        # When those calls were sent, since the first witness was refused, that are unanswered.
        self._unanswered: list[float] = []
        self.watches = False

    def is_news(self, sent_at: float) -> bool:
        """Whether a request sent at `sent_at` could take into account that the gate shut."""
        return sent_at >= self.corrected_at

    def refused(self, sent_at: float, until: float, now: float, reason: str) -> bool:
        """Hear that a call was told to wait until `until`; return whether that shuts the gate.

        Args:
            sent_at: the loop time at which the call was sent.
            until: the loop time until which it was told to wait.
            now: the current loop time.
            reason: a short text for statistics and events.
        """
        # 1. Sent before the gate last shut: no news.
        if not self.is_news(sent_at) or until <= now:
            return False
        taken = min(now - sent_at, LONGEST_REFUSAL)
        usual = taken if self._refusal_takes is None else self._refusal_takes
        self._refusal_takes = usual + SMOOTHING * (taken - usual)
        # 2. Others were let in since the last witness: this one is the first again.
        if self._let_in(now):
            self._start_over()
        if self._witnesses == 0:
            self._first, self._noticed_at = sent_at, now
            self.ends = -math.inf
        self._witnesses += 1
        self.watches = True
        self.ends = max(self.ends, until)
        # 3. Too few witnesses yet.
        if self._witnesses < WITNESSES:
            return False
        # 4. The last witness, or a question that was refused: shut, until the next question.
        if self._stopped_at == math.inf:
            self._stopped_at = now
        self._cause, self.corrected_at, self.reason = sent_at, now, reason
        pause = max(FIRST_QUESTION, QUESTION_SHARE * (now - self._stopped_at))
        self._asks_at = now + pause if self.ends - now > 2 * pause else self.ends
        self._stop()
        return True

    @property
    def asks(self) -> bool:
        """Whether nobody was let in since it shut, so that single calls ask."""
        return self._asks_at < math.inf

    def heard(self, until: float, now: float, reason: str) -> bool:
        """Shut because others were told to wait until `until`; return whether that is news.

        Their witnesses stand for those of this gate, which asks by itself when it may open.
        """
        if until <= max(self.ends, now):
            return False
        self._start_over()
        self._witnesses, self.watches = WITNESSES, True
        self._first = self._noticed_at = self._cause = self._stopped_at = self.corrected_at = now
        self.ends, self.reason = until, reason
        self._asks_at = now + FIRST_QUESTION if until - now > 2 * FIRST_QUESTION else until
        self._stop()
        return True

    def told(self, sent_at: float, now: float) -> bool:
        """Whether a call was sent although it was known that the server asks to wait."""
        return sent_at > self._noticed_at and not self._let_in(now)

    def asked(self, sent_at: float) -> bool:
        """Whether the call that was sent at `sent_at` is the last question of a gate."""
        return sent_at == self._question

    def let_in(self, sent_at: float, now: float) -> None:
        """Hear that a call was let in."""
        if sent_at <= self._first:
            return
        if self._stopped_at == math.inf or sent_at > min(self._cause, self._noticed_at):
            self._start_over()
            self._open(now)

    def not_let_in(self, sent_at: float) -> None:
        """Hear that a call was refused or failed, so that it is not taken for let in later."""
        sent = self._unanswered
        place = bisect_left(sent, sent_at)
        if sent_at in sent[place : place + 1]:
            del sent[place]
            if self._stopped_at < math.inf and self._question == math.inf:
                self._stop()

    def sent(self, now: float) -> None:
        """Hear that a call is sent, while the gate `watches`."""
        if self._let_in(now):
            self._start_over()
            return
        self._unanswered.append(now)
        # The next one after a stop is a question too, if one was asked before: hints that end while
        # the server still refuses let a crowd go each time.
        if self._witnesses >= WITNESSES and (now < self.ends or self._question < math.inf):
            self._question = now
            self.until = now + self._patience

    def ask_another(self, sent_at: float, now: float) -> None:
        """Ask with another call: the refusal of this question is about that call alone."""
        if self.asked(sent_at) and now < self.until:
            self._unanswered.clear()
            self._open(now)

    def close(self, until: float, sent_at: float, now: float, reason: str) -> bool:
        """Shut the gate until loop time `until`, without a question: the server stated a window.

        Args:
            until: the loop time at which the gate opens again.
            sent_at: the loop time at which the request was sent whose response stated it.
            now: the current loop time.
            reason: a short text for statistics and events.

        Returns:
            True if the gate now opens later than before. False changes nothing: the request is of
            an earlier epoch, or the gate is closed until `until` already.
        """
        # One response can shut the gate twice, by a hint and by a limit that it states. The first
        # of them starts an epoch at `now`, and the second must not be ignored because of that.
        news = self.is_news(sent_at) or now == self.corrected_at
        if not news or until <= max(self.until, now):
            return False
        self.until = self._window = until
        self.ends = max(self.ends, until)
        self.reason = reason
        self.corrected_at = now
        return True

    def left(self, now: float) -> float:
        """Return the seconds until the gate opens; 0 if it is open."""
        return max(0.0, self.until - now)

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self._start_over()
        self.until += seconds
        self.ends += seconds
        self._window += seconds
        self.corrected_at += seconds

    def _stop(self) -> None:
        """Shut until the next question, or until a call in flight was not refused for so long."""
        seems_let_in = self._unanswered[0] + self._patience if self._unanswered else math.inf
        self.until = max(min(self._asks_at, seems_let_in), self._window)

    def _open(self, now: float) -> None:
        """Open, but not before the end of a window that the server stated."""
        self.until = min(self.until, max(now, self._window))

    @property
    def _patience(self) -> float:
        return max(LEAST_PATIENCE, PATIENCE * (self._refusal_takes or 0.0))

    def _let_in(self, now: float) -> bool:
        """Whether a call was sent so long ago that it would have been refused by now."""
        return bool(self._unanswered) and self._unanswered[0] + self._patience <= now
