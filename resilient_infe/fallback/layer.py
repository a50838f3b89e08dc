"""Sends a call to another model, partition or transport when its own one does not answer.

Why inside Retry? A caller should not wait through the backoff of a model that is down while another
one would answer at once. So each attempt goes through the targets, and `Retry` sees one outcome: if
no target answers, it backs off, and the next attempt begins with the call's own model again.

Why outside the limiters and the breaker? Each target has its own: the call takes the partition of
the target. So it waits for the target's limit, and is refused at once by the target's open circuit.

What is passed on if no target answers? The first outcome that an attempt had. A refusal of the
stack itself is passed on only if nothing was sent at all: so a second model that does not exist, or
whose circuit is open, does not hide the failure of the first one, which may be worth a retry.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..core.call import Call, Handler
from ..core.given import Given
from ..core.verdict import SUCCESS, Kind, Verdict
from ..events import FallbackTried
from ..telemetry.note import add_note
from .targets import USUAL, FallbackStatistics, Target, checked_kinds, checked_targets, goes_on

TAG = "fallback"
"""The tag of a call that went elsewhere: the names of all that it tried, in order."""


class Fallback(Given):
    """Sends a call elsewhere if it is not answered, in a given order.

    Args:
        targets: the name of a model, or a `Target`; one or more, in the order in which they are
            tried.
        on: the kinds of failure that send a call on: OVERLOADED, TIMEOUT, RATE_LIMITED and REFUSED.
            A 429 does so only if its hint is past the call's deadline, and a refusal only if the
            circuit is open or the rate limit has no room before the deadline. SERVER_ERROR and
            TRANSIENT are left out, because they usually pass for the same model.

    Raises:
        ConfigurationError: there is no target, or a value is of a wrong type.

    The call has the tag ``fallback`` and the note on its exception says what was tried. A body that
    can be read only once is not sent again, nor is more sent than ``max_attempts`` of the call
    allows. A stream goes elsewhere only before its first chunk.

    State: only what the statistics count. Calls in progress keep theirs.
    """

    def __init__(self, *targets: Target | str, on: Iterable[Kind] | Kind = USUAL) -> None:
        self.targets, self.on = checked_targets(targets), checked_kinds(on)
        self._tried: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()

    async def __call__(self, call: Call[Any], call_next: Handler[Any, Any]) -> Any:
        """Run the attempt, and run it for the other targets while it is not answered."""
        home = _Home(call)
        first: _Outcome | None = None
        outcome: _Outcome | None = None
        tried: list[str] = []
        try:
            for target in (None, *filter(home.is_not, self.targets)):
                if target is not None:
                    self._go(call, target, home, tried)
                outcome = await _outcome(call, call_next)
                if outcome.succeeded:
                    if target is not None:
                        self._answered[str(target)] += 1
                    if first is not None:
                        first.discard()
                    return outcome.result
                if target is None:
                    home.refusals = call.state.refusals
                tried.append(f"{target or call.partition or 'its own'} ({_shown(call.verdict)})")
                first = outcome.after(first)
                now = call.runtime.now()
                if not goes_on(call.verdict, self.on, now, call.deadline) or not _again(call):
                    break
            home.restore(call)
            assert first is not None
            return first.passed_on(call, tried if len(tried) > 1 else [])
        except BaseException:
            home.restore(call)
            if first is not None:
                first.discard()
            raise
        finally:
            first = outcome = None  # they refer to exceptions, whose frames refer to this one

    def statistics(self) -> dict[str, FallbackStatistics]:
        """Return a snapshot per target, by its name."""
        return {
            name: FallbackStatistics(self._tried[name], self._answered[name])
            for name in map(str, self.targets)
        }

    def describe(self) -> str:
        """Return the targets and the kinds as text."""
        return f"then {', then '.join(map(str, self.targets))}; on {', '.join(sorted(self.on))}"

    def _go(self, call: Call[Any], target: Target, home: _Home, tried: list[str]) -> None:
        """Make the call ready for an attempt at a target."""
        verdict, came_from = call.verdict, call.partition
        self._tried[str(target)] += 1
        _clear(call)
        home.restore(call)
        call.state.refusals = None
        if target.where is not None:
            call.partition = target.where
        if target.model is not None and isinstance(call.payload, Mapping):
            call.payload = {**call.payload, "model": target.model}
        call.state.model, call.state.transport = target.model, target.transport
        names = [each.rpartition(" (")[0] for each in tried]
        call.tags = {**call.tags, TAG: " -> ".join([*names, str(target)])}
        if call.emit is not None and verdict is not None:
            call.emit(
                FallbackTried(
                    call.request_id,
                    came_from,
                    call.attempt,
                    str(target),
                    verdict.kind,
                    verdict.status,
                    verdict.code,
                    verdict.error,
                )
            )


class _Home:
    """What a call came with, to be restored before an attempt at each target. State: per call."""

    __slots__ = ("partition", "payload", "refusals", "tokens")

    def __init__(self, call: Call[Any]) -> None:
        self.payload, self.partition, self.tokens = call.payload, call.partition, call.tokens
        self.refusals = call.state.refusals

    def is_not(self, target: Target) -> bool:
        """Whether a target is another one than where the call comes from."""
        return target.transport is not None or target.where != self.partition

    def restore(self, call: Call[Any]) -> None:
        """Make the call what it was; a payload that an adapter has replaced stays."""
        if isinstance(self.payload, Mapping):
            refused = call.state.refused
            mended = None if refused is None else refused.request
            call.payload = self.payload if mended is None else mended
        call.partition, call.tokens, call.state.refusals = (
            self.partition,
            self.tokens,
            self.refusals,
        )
        call.state.model = call.state.transport = None


class _Outcome:
    """How one attempt ended. State: per attempt."""

    __slots__ = ("_call", "_error", "result")

    def __init__(self, call: Call[Any], result: Any, error: Exception | None) -> None:
        self._call = copy.copy(call)
        self.result, self._error = result, error

    @property
    def succeeded(self) -> bool:
        verdict = self._call.verdict
        return self._error is None and (verdict is None or verdict.kind is SUCCESS)

    @property
    def refused(self) -> bool:
        return self._call.verdict is not None and self._call.verdict.kind is Kind.REFUSED

    def after(self, first: _Outcome | None) -> _Outcome:
        """Return the one of the two that is passed on if no target answers."""
        if first is None:
            return self
        if first.refused and not self.refused:
            first.discard()
            return self
        self.discard()
        return first

    def discard(self) -> None:
        """Let go of a result that nobody gets."""
        if self._call.hold is not None:
            self._call.hold.close()

    def passed_on(self, call: Call[Any], tried: list[str]) -> Any:
        """Put the outcome on the call; return the result or raise the exception."""
        call.adopt(self._call)
        call.state.tried = tuple(tried)
        error, self._error = self._error, None
        if error is None:
            return self.result
        if tried:
            add_note(error, call, None if call.verdict is None else call.verdict.advice)
        try:
            raise error
        finally:
            del error  # a frame that refers to what it raises is a cycle


async def _outcome(call: Call[Any], call_next: Handler[Any, Any]) -> _Outcome:
    try:
        result = await call_next(call)
    except Exception as error:
        return _Outcome(call, None, error)
    return _Outcome(call, result, None)


def _again(call: Call[Any]) -> bool:
    """Whether another attempt may be sent."""
    most = call.state.max_attempts
    if call.verdict is not None and not call.verdict.sent:
        return True
    return call.replayable and (most is None or call.sends < most)


def _clear(call: Call[Any]) -> None:
    """Remove what the last attempt, and the limits of its partition, left on the call."""
    call.attempt = call.sends + 1
    call.verdict = call.reply = call.hold = None
    call.state.behind, call.state.let_pass, call.state.probes = False, -1, False


def _shown(verdict: Verdict | None) -> str:
    if verdict is None:
        return "failed"
    return verdict.error or "refused" if verdict.kind is Kind.REFUSED else str(verdict.kind)


def routed(handler: Handler[Any, Any], of: Callable[[Any], Handler[Any, Any]]) -> Handler[Any, Any]:
    """Return a handler that sends a call by the transport of its target, if that has one.

    Args:
        handler: sends by the stack's own transport.
        of: returns the handler of another transport.
    """

    def route(call: Call[Any]) -> Any:
        other = call.state.transport
        return (handler if other is None else of(other))(call)

    return route
