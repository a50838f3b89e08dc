"""Where a call may go instead, and which failures send it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..core import bounds
from ..core.ids import safe_name
from ..core.verdict import Kind, Verdict
from ..errors import CircuitOpen, ConfigurationError, DeadlineExceeded

USUAL = (Kind.OVERLOADED, Kind.TIMEOUT, Kind.RATE_LIMITED, Kind.REFUSED)
"""The kinds on which a call goes on elsewhere; for the last two see `goes_on`."""

UNREACHABLE = frozenset((CircuitOpen.__name__, DeadlineExceeded.__name__))
"""The refusals of the stack that are about the target: its circuit is open, or its rate limit has
no room before the deadline. A full queue or a draining stack is about this program.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call may go instead. At least one of the three is given.

    Args:
        model: the model to ask; None for the one that the request names.
        partition: the limits, circuit and slots to use; None for those of `model`, or of the call
            if no model is given.
        transport: what sends the request: an ``async def (payload)``, or an adapter with a
            ``handle`` method; None for the stack's own.

    Raises:
        ConfigurationError: none is given, or one has the wrong type.
    """

    model: str | None = None
    partition: str | None = None
    transport: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("model", "partition"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise ConfigurationError(f"{name} must be a text; got {bounds.shown(value)}")
        given = self.transport
        if given is not None and (isinstance(given, type) or not callable(given)):
            raise ConfigurationError(
                f"transport must be an async def (payload); got {bounds.shown(self.transport)}"
            )
        if self.where is None and self.transport is None:
            raise ConfigurationError("Target needs a model, a partition or a transport")

    @property
    def where(self) -> str | None:
        """The partition of a call that goes there; None for the call's own."""
        return self.partition or (None if self.model is None else safe_name(self.model))

    def __str__(self) -> str:
        """Return its name: the partition, or that of the transport."""
        transport = self.transport
        name = getattr(transport, "__name__", type(transport).__name__)
        return self.where or safe_name(name)


@dataclass(frozen=True, slots=True)
class FallbackStatistics:
    """A snapshot of what went to one target instead.

    Attributes:
        tried: the calls that went on to it.
        answered: those of them that it answered.
    """

    tried: int
    answered: int


def checked_targets(given: Iterable[Target | str]) -> tuple[Target, ...]:
    """Return the targets; a text is a model.

    Raises:
        ConfigurationError: there is none, one is something else, or two have the same name.
    """
    targets = tuple(Target(each) if isinstance(each, str) else each for each in given)
    for each in targets:
        bounds.instance(each, Target, "Fallback", 'the name of a model, or Target("infe-titan")')
    if not targets or len({str(each) for each in targets}) < len(targets):
        raise ConfigurationError(
            "Fallback needs one or more targets with different names: give Target(partition=...)"
        )
    return targets


def checked_kinds(given: Iterable[Kind] | Kind) -> frozenset[Kind]:
    """Return the kinds.

    Raises:
        ConfigurationError: one is not a kind, or is that of a success or of a cancelled call.
    """
    kinds = frozenset((given,) if isinstance(given, Kind) else given)
    for each in kinds:
        known: object = each  # a user may give anything
        if not isinstance(known, Kind) or known in (Kind.OK, Kind.CANCELLED):
            raise ConfigurationError(
                f"on= takes kinds of failures, such as Kind.OVERLOADED; got {bounds.shown(each)}"
            )
    return kinds


def goes_on(
    verdict: Verdict | None, kinds: frozenset[Kind], now: float, deadline: float | None
) -> bool:
    """Whether a call that failed goes on to the next target.

    There are three cases:

    1. RATE_LIMITED: only if the server's hint is past the deadline. Else the call is answered by
       its own model after a wait, which `Retry` makes.
    2. REFUSED: only if the target cannot be reached now, see `UNREACHABLE`, and not if the deadline
       itself has passed.
    3. Any other kind: if it is one of `kinds`.

    Args:
        verdict: on the failure; None if nothing classified it.
        kinds: the kinds to go on for.
        now: the loop time, in seconds.
        deadline: of the call, as a loop time; None without one.
    """
    if verdict is None or verdict.kind not in kinds or (deadline is not None and now >= deadline):
        return False
    if verdict.kind is Kind.RATE_LIMITED:
        hint = verdict.retry_after
        return hint is not None and deadline is not None and now + hint >= deadline
    return verdict.kind is not Kind.REFUSED or verdict.error in UNREACHABLE
