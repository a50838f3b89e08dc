"""What is known of the limits of each partition, from one run to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError
from .account import Account
from .allowance import Allowance

ACCOUNT = "*"
"""The name of what was spent of an account's day, beside the partitions."""


class Beliefs:
    """The beliefs of an earlier run, each until the first call of its partition.

    Args:
        given: by partition, with the empty text for calls without one; or None.

    Raises:
        ConfigurationError: one is not a belief; not raised later, at its partition's first call.

    Attributes:
        left: those that no partition has been told yet.

    State: those that are left.
    """

    __slots__ = ("left",)

    def __init__(self, given: Mapping[str, Mapping[str, Any]] | None) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise ConfigurationError(
                "beliefs must be the value of RateLimiter.beliefs(), by partition"
            )
        for belief in (given or {}).values():
            Allowance(belief=belief)
        self.left = {str(name): dict(belief) for name, belief in (given or {}).items()}

    def restore(
        self,
        name: str | None,
        allowance: Allowance,
        account: Account | None,
        now: float,
        wall: float,
    ) -> None:
        """Tell an allowance what is believed of its partition, unless it knows something already.

        Args:
            name: the partition; None for calls without one.
            allowance: the allowance.
            account: the limit over all partitions, which is told too; None if there is none.
            now: the loop time, in seconds.
            wall: seconds since 1970 at that time.
        """
        own = [(name or "", allowance)]
        for key, each in own if account is None else [*own, (ACCOUNT, account.allowance)]:
            belief = self.left.pop(key, None)
            if belief is not None and each.belief() is None:
                each.believe(belief, now, wall)

    def with_current(
        self, known: Iterable[tuple[str | None, dict[str, Any] | None]]
    ) -> dict[str, dict[str, Any]]:
        """Return those that are left, and those of today, which replace them."""
        current = {name or "": belief for name, belief in known if belief is not None}
        return {**self.left, **current}
