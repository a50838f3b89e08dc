"""A limit that several processes use, and what each of them takes of it.

Processes that have a Redis in common share it by need: see `shared`. Others can share a limit in
two ways, by what is known of it:

1. It is declared, or the server states it. Then each of `n` processes keeps 1/n of it. For example,
   6,000 a minute are 300 a minute for each of 20. What one of them does not use is lost.
2. It is learned. Then all of them grow and give way by the same law, so that their parts become
   equal, however many there are. Nothing is divided, and a part that is not used goes to the
   others. That law costs more 429s than a limit of one's own, so it must be asked for.

Requests and tokens are divided, those of a day and of an account too. Slots are not: how many
calls a process can have in flight is about its own sockets and memory.

A process that is not told of the others can only suspect them: see `Falls`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..core import bounds
from ..errors import ConfigurationError
from ..shared.shares import RedisShares

SUSPECT = 5
"""Falls of a learned limit within `WITHIN` from which others are suspected.

In the gym, where nobody else used the limit, there were at most 5 in 85 of 91 servers; the six
others refused 5 % or more at random. Where 2 to 8 processes disturbed each other, 3 to 13."""

WITHIN = 600.0
"""Seconds in which falls are counted together: others come and go in minutes."""

FALL = 0.9
"""A learned limit fell if less than this part of it is believed, or nothing any more."""


def parts(share: float, processes: int, shared: bool | RedisShares) -> tuple[float, bool]:
    """Return the share of one process, and whether it learns by the law of several.

    Args:
        share: the part of the limits that all the processes have together, in (0, 1].
        processes: how many there are, from 1.
        shared: whether others use the limit besides them, or what divides it among them.

    Raises:
        ConfigurationError: a value is out of range, or of a wrong type.
    """
    bounds.share(share, "share (1/20 for 20 replicas)")
    bounds.whole(processes, 1, "processes, which counts this one,")
    if isinstance(shared, RedisShares):
        if processes > 1:
            raise ConfigurationError(
                "RedisShares divides the limit among the processes that there are: leave "
                "processes= out"
            )
        return share, True
    instead = "RedisShares(...), True or False; the number goes into processes="
    bounds.instance(shared, bool, "shared", instead)
    part = bounds.share(share / processes, "share / processes")
    return part, shared or processes > 1


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A record that others seem to use the limit, because of `reason`."""

    reason: str


class Falls:
    """How often a learned limit fell.

    A limit of one's own falls when it is lowered, once. One that others use too is exhausted at
    moments that nothing of one's own explains, again and again. So does one below which the server
    refuses many at random, which cannot be told from it by one process.

    State: inside the `Rates` that own it; the instants of the last falls.
    """

    __slots__ = ("_reported", "_times")

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=SUSPECT)
        self._reported = False

    def note(self, old: float | None, new: float | None, now: float) -> Suspicion | None:
        """Note the learned limit before and after a 429; return a suspicion once.

        Args:
            old: units per minute before; None for a limit that was not known.
            new: the same after.
            now: the loop time, in seconds.
        """
        if old is None or (new is not None and new >= FALL * old):
            return None
        self._times.append(now)
        reason = self.reason(now)
        if not reason or self._reported:
            return None
        self._reported = True
        return Suspicion(reason)

    def reason(self, now: float) -> str:
        """Return why others are suspected now; the empty text if they are not."""
        if len(self._times) < SUSPECT or now - self._times[0] > WITHIN:
            return ""
        return (
            f"it fell {SUSPECT} times in {WITHIN / 60:.0f} minutes: others may use it too (then "
            f"give shared=True or processes=n), or the server refuses many at random"
        )
