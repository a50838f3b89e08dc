"""A time in which the server lets nothing in, and the questions that find its end.

A stop says when to ask again, and nothing about how much. Each question is another call. It is
answered by a 429, or by silence: a 429 would have come by now.
"""

from __future__ import annotations

from .sends import Ticket
from .tuning import Tuning

FIRST_SILENCE, SILENCE = 1.6, 3.0
"""Times that a 429 usually takes, until a question counts as let in: the first two, and later."""

LEAST_FIRST_SILENCE, LEAST_SILENCE = 0.02, 0.3
"""The same in seconds, at least."""


class Stop:
    """One stop.

    Args:
        since: when the request was sent that found it.
        now: the loop time, in seconds.
        gap: seconds to the first question after the next.
        first: seconds to the next question.

    Attributes:
        refused_at: when the last request was sent that was refused.
        question: the question that is not answered yet, or None.
        asked: how many questions were sent.
        next_at: when the next one may go, if none is under way.

    State: inside the `Seeker` that owns it.
    """

    __slots__ = ("_least", "_tuning", "asked", "gap", "next_at", "question", "refused_at", "since")

    def __init__(self, since: float, now: float, gap: float, first: float, tuning: Tuning) -> None:
        self.since = self.refused_at = since
        self.gap = gap
        self._least = max(tuning.question_gap, gap / 2.0)
        self.next_at = now + first
        self.question: Ticket | None = None
        self.asked = 0
        self._tuning = tuning

    def ready_at(self, refusal: float, spacing: float) -> float:
        """Return when the next request may go: a question, or after silence any.

        Args:
            refusal: the seconds that a 429 usually takes.
            spacing: the seconds between two requests at the pace.
        """
        if self.question is None:
            return self.next_at
        if self.asked < 2:
            silence = max(LEAST_FIRST_SILENCE, FIRST_SILENCE * refusal)
        else:
            silence = max(LEAST_SILENCE, SILENCE * refusal)
        return self.question.at + max(silence, spacing)

    def ask(self, question: Ticket) -> None:
        """Note a question."""
        self.question = question
        self.asked += 1

    def refused(self, now: float, turn: float | None, *, sure: bool, known: bool) -> None:
        """Note that the question was refused.

        Args:
            now: the loop time, in seconds.
            turn: when a window is foretold to let something in: the next question goes then.
            sure: whether nothing needs to be asked before.
            known: whether anything was ever let in. If not, the calls themselves may be the reason,
                such as rows at the head that are always refused: each question is another call.
        """
        assert self.question is not None
        tuning = self._tuning
        self.refused_at, self.question = self.question.at, None
        lasts = now - self.since
        most = max(tuning.longest_question_gap, tuning.late_question_share * lasts)
        longest = max(self._least, min(tuning.question_share * lasts, most))
        if not known:
            longest = max(tuning.question_gap, tuning.unknown_question_share * lasts)
        self.gap = min(self.gap * tuning.question_growth, longest)
        self.next_at = now + self.gap
        if turn is not None and turn > now:
            self.next_at = turn if sure else min(turn, self.next_at)
