"""Whether the 429s of one call are about that call alone, so that no wait will help it.

A request may be refused for what it is: it is larger than the whole limit, or the server answers
429 to whatever it does not like. Such a call must end, and must not hold up the others. A number of
429s does not tell it from an honest call, which at a full limit can meet ten in a row. What tells
it is how the others fared. There are four cases:

1. Something that was sent after its last 429 was let in. Then its next 429 *counts*: the server
   does let calls in, but not this one. The call is a *suspect* from then on.
2. How much does it count? As much as it surprises. If 30 requests as large as this one were sent
   within a second of it and none of them was refused, a refusal by chance has a probability of 1
   in 31. Three or more such 429s, of less than 1 in 10^12 together, are no chance.
3. Nothing that was sent is as large. Then its 429s tell nothing. After ten it waits until nobody
   else does, or until many have gone before it.
4. Nothing was let in for a minute, and only suspects were refused. Then the limit must be free, and
   yet it is refused: this counts as 1 in 20, at most once a minute. While calls are refused that
   are no suspects, the server may as well be down: then at most once in six minutes for each of
   them, which is an hour in all for one such call, and three hours for three.

No other fixed number came out right: to give up after ten 429s failed up to 297 of 2,000 honest
calls, and this rule none of 440,000.
"""

from __future__ import annotations

import math

CERTAIN = -math.log(1e-12)
"""The surprise from which a call's 429s are no chance."""

LEAST_COUNTED = 3
"""429s that have to count before a call ends, however surprising they are."""

ALONE = 60.0
"""Seconds of quiet after which nothing but the request explains the 429 of a suspect."""

ALONE_UNSUSPECTED = 360.0
"""The same in seconds for each refused call that is not a suspect: the server may be down."""

ALONE_SURPRISE = 3.0
"""The surprise of such a 429: about 1 in 20."""

DOUBTFUL = 1.5
"""The surprise, about 1 in 4, below which a suspect's 429s still tell of the rate. Above the limit
every call soon is a suspect: without this, a limit that was declared 3 times too high was learned
up to 22 % wrong, and an unknown one was found with up to 42 429s where 2 are enough."""

PARKED_AFTER = 10
"""429s of a suspect that nothing can be compared with, after which it waits for all others."""

MEMORY = 900
"""Seconds for which it is known what was let in: more than the longest wait between two tries."""


class Others:
    """What was let in and what was refused of late, by the second of sending and by size.

    Sizes are told apart by powers of two. State: inside the `Allowance` that owns it.

    Attributes:
        watched_until: the loop time until which what is let in has to be noted; in the past as long
            as nothing is refused.
        last_let_in: when the latest call was sent that was let in.
        in_a_row: how many were refused since one was let in.
    """

    __slots__ = ("_honest", "_seconds", "in_a_row", "last_let_in", "watched_until")

    def __init__(self) -> None:
        self._seconds: dict[int, dict[int, list[int]]] = {}
        self.watched_until = self.last_let_in = -math.inf
        self.in_a_row = 0
        # When each call that is no suspect was refused last, the earliest first.
        self._honest: dict[Refusals, float] = {}

    def note(self, sent_at: float, tokens: float, *, refused: bool) -> None:
        """Count one call."""
        self.in_a_row = self.in_a_row + 1 if refused else 0
        sizes = self._seconds.setdefault(math.floor(sent_at), {})
        sizes.setdefault(_size(tokens), [0, 0])[refused] += 1
        if not refused:
            self.last_let_in = max(self.last_let_in, sent_at)
        if len(self._seconds) > MEMORY:
            for second in sorted(self._seconds)[: MEMORY // 3]:
                del self._seconds[second]

    def note_honest(self, call: Refusals, now: float) -> None:
        """Note the refusal of a call that is not a suspect."""
        honest = self._honest
        honest.pop(call, None)
        honest[call] = now
        while honest[first := next(iter(honest))] < now - ALONE_UNSUSPECTED:
            del honest[first]

    def note_suspect(self, call: Refusals) -> None:
        """Note that a call has become a suspect, or ended."""
        self._honest.pop(call, None)

    def quiet_needed(self, now: float) -> float:
        """Return the seconds of quiet after which only the call itself explains its 429."""
        latest = next(reversed(self._honest.values()), -math.inf)
        # Without any in the last minutes, those that are still kept are over.
        refused = len(self._honest) if latest >= now - ALONE_UNSUSPECTED else 0
        return ALONE_UNSUSPECTED * refused or ALONE

    def near(self, sent_at: float, tokens: float) -> tuple[int, int]:
        """Return how many, at least as large and sent within a second, were let in and refused."""
        passed = refused = 0
        second, size = math.floor(sent_at), _size(tokens)
        for each in (second - 1, second, second + 1):
            for other, (let_in, not_let_in) in self._seconds.get(each, {}).items():
                if other >= size:
                    passed += let_in
                    refused += not_let_in
        return passed, refused


class Refusals:
    """The 429s of one call. State: per call, made at its first 429.

    Attributes:
        times: how many there were.
        suspect: whether others were let in since, so that they seem to be about this call.
        parked: whether the call waits until nobody else does.
        final: why no further attempt can help, or None.
        for_good: whether the same request can never pass: it is larger than the limit.
    """

    __slots__ = ("_alone_at", "_counted", "_sent_at", "_since", "_surprise", "final",
                 "for_good", "parked", "suspect", "times")  # fmt: skip

    def __init__(self) -> None:
        self.times = self._counted = 0
        self._surprise = 0.0
        self._since = self._alone_at = self._sent_at = 0.0
        self.parked = self.suspect = self.for_good = False
        self.final: str | None = None

    @property
    def certain(self) -> bool:
        """Whether it is a suspect, and its 429s are hardly the rate's."""
        return self.suspect and self._surprise >= DOUBTFUL

    def add(self, sent_at: float, tokens: float, now: float, others: Others) -> None:
        """Count one more 429, and decide whether it was the last.

        Args:
            sent_at: the loop time at which the request was sent.
            tokens: its estimated cost.
            now: the loop time, in seconds.
            others: how the others of its partition fared.
        """
        others.note(sent_at, tokens, refused=True)
        others.watched_until = now + MEMORY
        if not self.suspect:
            others.note_honest(self, now)
        if self.times == 0:
            self._since = self._alone_at = now
        elif others.last_let_in > self._since:
            self._since = now
            self._count(tokens, others)
        elif (quiet := now - max(self._alone_at, others.last_let_in)) > ALONE and (
            quiet > others.quiet_needed(now)
        ):
            self._alone_at = now
            self._counted += 1
            self._surprise += ALONE_SURPRISE
        self.times += 1
        self._sent_at = sent_at
        if self._counted >= LEAST_COUNTED and self._surprise >= CERTAIN:
            others.note_suspect(self)
            how = "others like it were let in" if self.suspect else "nothing else was sent"
            self.final = (
                f"refused {self.times} times while {how}: the server refuses this request, and not "
                f"the rate"
            )

    def _count(self, tokens: float, others: Others) -> None:
        # The neighbours of the 429 before this one: by now they have been answered.
        passed, refused = others.near(self._sent_at, tokens)
        self._counted += 1
        self.suspect = True
        others.note_suspect(self)
        if passed:
            refused = max(1, refused)  # its own is one of them, unless that is forgotten
            self._surprise -= math.log(refused / (passed + refused))
        self.parked = not passed and self.times >= PARKED_AFTER


def _size(tokens: float) -> int:
    return math.frexp(max(1.0, tokens))[1]
