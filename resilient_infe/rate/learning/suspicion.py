"""When a rejection that nothing explains is more than noise."""

from __future__ import annotations

from .trail import Sent

NOISE_TIMES = 2.5
"""So many times the usual noise is needed on top before rejections mean something."""


class Suspicion:
    """Rejections that nothing explains yet: noise, or the first signs of another limit.

    A server whose limit fell rejects many of those that follow; one that answers a request in two
    hundred with 429 for no reason does not. So a rejection counts when others stand close to it.

    Args:
        needed: so many rejections
        among: among so many requests are no chance.
    """

    __slots__ = ("_among", "_needed", "_recent")

    def __init__(self, needed: int, among: int) -> None:
        """Suspect nothing."""
        self._needed, self._among = needed, among
        self._recent: list[Sent] = []

    @property
    def first(self) -> Sent:
        """The first of those that stand together."""
        return self._recent[0]

    def add(self, sent: Sent, noise: float = 0.0) -> bool:
        """Note a rejection; True if enough stand together, those expected of noise left out."""
        self._recent.append(sent)
        while abs(sent.number - self._recent[0].number) > self._among:
            self._recent.pop(0)
        return len(self._recent) >= self._needed + round(NOISE_TIMES * noise * self._among)

    def pending(self, number: int) -> bool:
        """Whether one is near enough that another would matter."""
        return bool(self._recent) and number - self._recent[-1].number <= self._among
