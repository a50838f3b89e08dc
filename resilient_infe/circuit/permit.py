"""The permit of one attempt, whose identity is the epoch in which it was sent."""

from __future__ import annotations


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
