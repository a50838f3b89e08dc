"""What a stage is: how fast to send, and what a rejection means."""

from __future__ import annotations

from dataclasses import dataclass

from .trail import Sent, Trail


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of a limit.

    Attributes:
        limit: units per second.
        windowed: whether it is counted in windows of a minute.
        exact: how many requests it was measured by.
    """

    limit: float
    windowed: bool
    exact: float


class Stage:
    """One stage of the search for a limit. Each correction makes a new one, and so a new epoch.

    Attributes:
        limit: units per second that are believed in, 0 while nothing is known.
        pause: seconds for which nothing is sent when it begins.
        anchor: the rejection to measure from, from now on.
        why: in a few words, on what evidence it was made.

    State: inside the `Finder` that owns it.
    """

    limit: float = 0.0
    pause: float = 0.0
    anchor: Sent | None = None
    why: str = ""

    def pace(self) -> float:
        """Return the units per second to send now."""
        raise NotImplementedError

    def advance(self, seconds: float, gap: float, now: float, trail: Trail) -> None:
        """Take note of time that passed while there was work.

        Args:
            seconds: by which the pace may grow.
            gap: seconds since the last send, the wait that the server asked for included.
            now: the instant.
            trail: the sends so far.
        """

    def ready_at(self, paced: float, cost: float, trail: Trail) -> float:
        """Return the instant from which `cost` may be sent; `paced` is the one by the pace."""
        return paced

    @property
    def looking(self) -> bool:
        """Whether it goes above what is known to pass."""
        return False

    @property
    def quiet(self) -> bool:
        """Whether it keeps so far below what is known to pass that only noise is rejected."""
        return False

    def sending(self, now: float, trail: Trail) -> Stage:
        """Take note that a request is about to be sent; returns the stage from then."""
        return self

    def sent(self, sent: Sent) -> None:
        """Take note of a request that was sent."""

    def unsent(self, sent: Sent) -> None:
        """Take note that a request never went."""

    def belief(self) -> Belief | None:
        """Return what is worth keeping for another run, or None."""
        return None

    def accepted(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Take note of an answer; returns the stage from then."""
        return self

    def told(self, sent: Sent, now: float, trail: Trail) -> Stage | None:
        """Judge a rejection that says how long to wait; None leaves it to `rejected`."""
        return None

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Judge a rejection; returns the stage from then, itself if it means nothing."""
        raise NotImplementedError
