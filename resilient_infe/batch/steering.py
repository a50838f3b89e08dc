"""Steers a run while it goes on: other limits, a pause, and an end that another run goes on from.

A pause cuts the calls that wait for a slot or for the rate limit, as a stop does, but their lanes
keep the rows. What is being sent comes to its end. A row between two attempts keeps its call, so
what the server asked it to wait for is kept too: its next attempt waits until the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, Unpack

from .. import aio
from ..core.verdict import Kind
from ..errors import BatchPaused, ConfigurationError, JournalError
from ..events import ConfiguredLimit, LimitsConfigured
from ..stack.configure import Limits
from ..stack.stack import Stack
from .bell import Bell
from .lane import Lanes
from .sampler import Sampler
from .steered import CONFIGURED, DRAINED, PAUSED, RESUMED

State: TypeAlias = Literal["running", "paused", "draining"]

MOST_LANES = 8_192
"""Rows under way at most, however many attempts at once are asked for while a run goes on."""

DRAIN = "told to end early; every row that was not sent is left for the next run"
"""What a run says that was drained."""


class Steering:
    """Changes what a run does.

    Args:
        stack: that it sends with, or None.
        lanes: its workers.
        admission: rings when rows that wait may be sent.
        sampler: records how it goes.
        stop: ends it, and raises an error to who iterates.

    Attributes:
        state: whether it sends, holds back, or comes to its end.

    State: one run.
    """

    def __init__(
        self,
        stack: Stack | None,
        lanes: Lanes,
        admission: Bell,
        sampler: Sampler,
        stop: Callable[[BaseException], None],
    ) -> None:
        self.state: State = "running"
        self._stack = stack
        self._lanes = lanes
        self._admission = admission
        self._sampler = sampler
        self._stop = stop

    def pause(self) -> None:
        """Send no row from now on; what is being sent comes to its end."""
        if self.state == "running":
            self._lanes.brake.on = True
            self._lanes.hold()
            self._enter("paused", PAUSED)

    def resume(self) -> None:
        """Send again, after a pause."""
        if self.state == "paused":
            self._lanes.brake.release()
            self._admission.ring()
            self._enter("running", RESUMED)

    def drain(self) -> None:
        """End the run once what is being sent has come to its end; the next run goes on."""
        if self.state != "draining":
            self._enter("draining", DRAINED)
            self._stop(BatchPaused(DRAIN, Kind.CANCELLED))

    def configure(
        self, model: str | None = None, **limits: Unpack[Limits]
    ) -> tuple[ConfiguredLimit, ...]:
        """Change limits of the stack, and start the lanes that more attempts at once need.

        Raises:
            ConfigurationError: they cannot be changed; see `Stack.configure`.
        """
        if self._stack is None:
            raise ConfigurationError("only what stack.around(...) returned has limits to change")
        changes = self._stack.configure(model=model, **limits)
        wanted = limits.get("concurrency")
        slots = sum(wanted.values()) if isinstance(wanted, Mapping) else wanted or 0
        self._lanes.widen(min(2 * slots, MOST_LANES))
        if changes:
            self._record(CONFIGURED, **LimitsConfigured(changes).as_dict())
        return changes

    def _enter(self, state: State, name: str) -> None:
        before, self.state = self.state, state
        self._record(name, old=before, new=state)

    def _record(self, name: str, **fields: Any) -> None:
        told = {"name": name, "when": round(aio.wall_time(), 3), **fields}
        # A monitor among the stack's listeners has heard of new limits.
        listeners = () if self._stack is None else self._stack.listeners
        heard = name == CONFIGURED and self._sampler.monitor in listeners
        try:
            self._sampler.take(aio.current().now(), [] if heard else [told])
        except JournalError as error:
            self._stop(error)
