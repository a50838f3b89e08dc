"""Asks Redis for the shares of one process, in one call for all of its limits."""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from ..aio import Alarm, Runtime, current, keep, pump
from ..core import bounds
from ..core.shared import Shared
from ..errors import ConfigurationError
from ..events import RateGateClosed, SharesLost, SharesRestored
from .client import check, close, from_url
from .member import DEFAULT, Demand, Member, OnLoss, SharesTuning
from .pulse import Pulse
from .script import SCRIPT, Answer, Asked, answers, arguments, keys

NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)

TELLS_AFTER = 2
"""Beats without an answer after which that is reported: one may be lost."""


class Seat(Protocol):
    """The end of a limit that is shared: what needs a share, and holds to it."""

    @property
    def name(self) -> str:
        """The name by which all processes know the limit."""
        ...

    @property
    def allowance(self) -> object:
        """The limit."""
        ...

    @property
    def pumped(self) -> Any:
        """The policy whose waiters may go when the share grows."""
        ...

    emit: Callable[[Any], None] | None

    def demand(self, now: float) -> Demand:
        """Return what would be sent now."""
        ...

    def apply(self, member: Member, ahead: float, asks_at: float, now: float) -> None:
        """Hold to a share from now on."""
        ...

    def shut(self, seconds: float, now: float) -> bool:
        """Shut the gate for all; return whether that is news."""
        ...


@dataclass(frozen=True, slots=True)
class SharesStatistics:
    """A snapshot of the shares of one process.

    Attributes:
        shares: the part of each limit that this process may use, by the limit's name.
        members: the processes that use each limit, as far as is known.
        calls: the calls to the store so far.
        failures: those that were not answered.
        lost_for: the seconds for which the store has not answered; 0 while it does.
        interval: the seconds between two calls at present.
        takes: the seconds that the last answered call took.
    """

    shares: dict[str, float] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    failures: int = 0
    lost_for: float = 0.0
    interval: float = 0.0
    takes: float = 0.0


class RedisShares(Shared):
    """One limit for all processes that are given the same Redis and name.

    Each process holds a share of each limit, by its need: what waits and what it sends, by
    priority. It asks Redis for it in one call for all limits, at most twice a second, and sends
    evenly with what it has. The sum of the shares is never above 1; see `script`.

    Args:
        client: a client of asyncio from ``redis``, ``valkey`` or ``coredis``; or a URL such as
            ``"redis://host:6379/0"``, or a function that returns a client, for one in each event
            loop, which is closed by `leave`. A URL needs the extra ``[redis]``, and pickles.
        name: begins the keys; processes share a limit if it is the same, and the model is.
            Letters, digits and ``._:-``; ``"infe"`` by default.
        on_loss: what to do when Redis does not answer for longer than a share is leased, 10 s.
            ``"keep"``, the default, goes on with the last share, but no more than an equal part of
            the limit; ``"stop"`` sends nothing; a number from 0 to 1 is the share to use, also
            before Redis has ever answered.
        tuning: the numbers of shared limits.

    Raises:
        ConfigurationError: the client is none, or is not of asyncio; or a value is out of range.
        WrongLoopError: raised by a call, if another event loop uses the object.

    Attributes:
        seats: the limits that are shared now, by their allowance, each with its share.

    State: one per process; it may be given to several `RateLimiter`. What all processes hold is in
    Redis, under keys that are gone a quarter of an hour after the last use.
    """

    __slots__ = ("__weakref__", "_alarm", "_beating", "_calls", "_client", "_failures", "_member",
                 "_name", "_on_loss", "_owned", "_pid", "_pulse", "_runtime", "_script", "_takes",
                 "_told", "_tuning", "seats")  # fmt: skip

    def __init__(
        self,
        client: Any,
        name: str = "infe",
        *,
        on_loss: Literal["keep", "stop"] | float = "keep",
        tuning: SharesTuning = DEFAULT,
    ) -> None:
        given: object = name
        if not isinstance(given, str) or not NAME.fullmatch(given):
            raise ConfigurationError(
                f"name must be 1 to 64 letters, digits or ._:- ; got {bounds.shown(name)}"
            )
        if on_loss not in ("keep", "stop"):
            bounds.between(on_loss, 0, 1, 'on_loss, unless it is "keep" or "stop",')
        self._client, self._name, self._tuning = client, name, tuning
        self._on_loss: OnLoss = on_loss
        check(client)
        self._calls = self._failures = 0
        self._takes = 0.0
        self._member, self._pid = "", 0
        self._runtime: Runtime | None = None
        self.abandon()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made from; a client that is connected does not pickle."""
        return _again, (type(self), self._client, self._name, self._on_loss, self._tuning)

    @property
    def busy(self) -> bool:
        """Whether a call to Redis is under way, on the loop that uses this."""
        return self._beating

    def abandon(self) -> None:
        """Forget the shares: their loop was closed. What Redis knows of them ends by itself."""
        self.seats: dict[object, tuple[Seat, Member]] = {}
        self._pulse = Pulse(self._tuning)
        self._beating = self._told = False
        self._alarm: Alarm | None = None
        self._script: Callable[..., Any] | None = None
        self._owned: Any = None

    def rebase(self, seconds: float) -> None:  # noqa: ARG002  # nothing is kept that it would move
        """Begin anew on another loop."""
        self.abandon()

    def knows(self, allowance: object, runtime: Runtime) -> bool:
        """Whether this limit has its share, on this loop."""
        return runtime is self._runtime and allowance in self.seats

    def join(self, seat: Seat, runtime: Runtime) -> None:
        """Ask for a share of a limit from now on; nothing is sent before there is one.

        Raises:
            WrongLoopError: another event loop uses this.
        """
        keep(self, runtime)
        if self._runtime is not runtime or self._alarm is None:
            self._runtime = runtime
            self._alarm = runtime.alarm(self._ring)
        if self._pid != os.getpid():  # a forked child is a member of its own
            self._pid, self._member = os.getpid(), os.urandom(6).hex()
        copies = {member.copy for other, member in self.seats.values() if other.name == seat.name}
        copy = next(number for number in itertools.count() if number not in copies)
        now, member = runtime.now(), Member(self._on_loss, self._tuning, copy)
        self.seats[seat.allowance] = seat, member
        seat.apply(member, self._pulse.interval, now + self._tuning.fastest, now)
        self.hasten()

    def hasten(self, allowance: object = None, waiting: int = 0) -> None:
        """Ask as soon as possible: a gate shut, or many more calls wait for a limit than did.

        Args:
            allowance: the limit; None to ask in any case.
            waiting: how many wait for it.
        """
        known = self.seats.get(allowance)
        if known is not None and waiting <= 2 * known[1].demand.waiting:
            return
        if self._runtime is not None:
            self._pulse.hasten(self._runtime.now())
            self._plan()

    async def reach(self) -> None:
        """Ask Redis once, so that a program can end at its start where nothing answers.

        Raises:
            ConfigurationError: Redis does not answer, or cannot run the script.
            WrongLoopError: another event loop uses this.
        """
        runtime = current()
        keep(self, runtime)
        self._runtime = runtime
        _, reason = await self._call((), (), 0.0)
        if reason:
            raise ConfigurationError(f"Redis does not answer: {reason}")

    async def leave(self) -> None:
        """Give all shares up, so that others need not wait for the lease to end.

        A client that this object made is closed. A call that comes later joins again.
        """
        seats, runtime = list(self.seats.values()), self._runtime
        if runtime is None:
            return
        if self._alarm is not None:
            self._alarm.set(None)
        try:
            if seats and self._script is not None:
                now = runtime.now()
                asked = [member.leaves(seat.demand(now), now) for seat, member in seats]
                self._apply(seats, now)
                await self._call(seats, asked, 0.0)
        finally:
            owned = self._owned
            self.abandon()
            await close(owned)

    async def __aenter__(self) -> Self:
        """Return the object."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        await self.leave()

    def statistics(self) -> SharesStatistics:
        """Return a frozen snapshot."""
        pulse, runtime = self._pulse, self._runtime
        lost = 0.0
        if pulse.lost_at is not None and runtime is not None:
            lost = max(0.0, runtime.now() - pulse.lost_at)
        return SharesStatistics(
            {seat.name: member.share for seat, member in self.seats.values()},
            {seat.name: member.members for seat, member in self.seats.values()},
            self._calls,
            self._failures,
            lost,
            pulse.interval,
            self._takes,
        )

    def _plan(self) -> None:
        if self._alarm is not None and not self._beating:
            self._alarm.set(self._pulse.due)

    def _ring(self, _: float) -> None:
        if self._runtime is not None and not self._beating:
            self._beating = True
            self._runtime.start(self._beat)

    async def _beat(self) -> None:
        """Tell Redis what is needed, and use what it gives."""
        runtime, pulse = self._runtime, self._pulse
        try:
            assert runtime is not None
            seats, now = list(self.seats.values()), runtime.now()
            pulse.sent(now)
            asked = [member.asks(seat.demand(now), now) for seat, member in seats]
            self._apply(seats, now)
            found, reason = await self._call(seats, asked, pulse.lease)
            if pulse is not self._pulse:
                return  # it left meanwhile
            if found is None:
                self._lost(seats, reason, runtime.now())
            else:
                self._found(seats, found, now + pulse.lease, runtime.now())
            self._apply(seats, runtime.now())
            for seat, _ in seats:
                pump(seat.pumped)
        finally:
            if pulse is self._pulse:
                self._beating = False
                self._plan()

    async def _call(
        self, seats: Sequence[tuple[Seat, Member]], asked: Sequence[Asked], lease: float
    ) -> tuple[list[Answer] | None, str]:
        """Call the script; return its answers, or None and why there are none."""
        runtime, reply, reason = self._runtime, None, "no answer in time"
        assert runtime is not None
        began = runtime.now()
        self._calls += 1
        try:
            with runtime.cut_off_after(self._tuning.timeout):
                script = self._script or self._connect()
                named = keys(self._name, (seat.name for seat, _ in seats))
                reply = await script(keys=named, args=arguments(self._member, lease, asked))
            if reply is not None:
                found = answers(reply)
                if len(found) != len(asked):
                    raise ValueError(f"{len(found)} answers to {len(asked)} questions")
                self._takes = runtime.now() - began
                return found, ""
        except Exception as error:  # a client of any make may raise anything
            reason = f"{type(error).__name__}: {error}"
        self._failures += 1
        return None, reason

    def _connect(self) -> Callable[..., Any]:
        """Return the script, bound to the client of this loop, which is made if it has to be."""
        client = self._client
        if isinstance(client, str):
            client = self._owned = from_url(client)
        elif not hasattr(client, "register_script"):
            client = self._owned = client()
        script: Callable[..., Any] = client.register_script(SCRIPT)
        self._script = script
        return script

    def _found(
        self,
        seats: Sequence[tuple[Seat, Member]],
        found: Sequence[Answer],
        until: float,
        now: float,
    ) -> None:
        pulse = self._pulse
        lost_for = 0.0 if pulse.lost_at is None else now - pulse.lost_at
        calls_came = pulse.due is not None
        for (seat, member), answer in zip(seats, found, strict=True):
            member.answered(answer, until, now)
            if seat.shut(answer.gate, now):
                _emit(seat, RateGateClosed(None, seat.name, answer.gate, HEARD))
        pulse.answered([member for _, member in seats], now)
        if self._told:
            self._told = False
            for seat, member in seats:
                _emit(seat, SharesRestored(seat.name, member.share, lost_for))
        if calls_came:
            return
        for seat, member in seats:
            if member.share <= 0.0 and not member.demand.is_busy:  # it joins again with a call
                self.seats.pop(seat.allowance, None)

    def _lost(self, seats: Sequence[tuple[Seat, Member]], reason: str, now: float) -> None:
        pulse, tuning = self._pulse, self._tuning
        pulse.failed(now, random.random())  # noqa: S311  # spreads the members over time
        until = (pulse.due or now) + tuning.fastest + tuning.timeout
        for _, member in seats:
            member.lost(until, now)
        if pulse.failures >= TELLS_AFTER and not self._told:
            self._told = True
            for seat, member in seats:
                _emit(seat, SharesLost(seat.name, member.share, str(self._on_loss), reason))

    def _apply(self, seats: Sequence[tuple[Seat, Member]], now: float) -> None:
        pulse = self._pulse
        asks_at = max(now, pulse.due or now) + self._tuning.fastest
        for seat, member in seats:
            seat.apply(member, pulse.interval, asks_at, now)

    def __repr__(self) -> str:
        return f"<RedisShares {self._name!r}, {len(self.seats)} limits>"


HEARD = "another process was told to wait"
"""Why a gate is shut that another process has shut."""


def _again(
    cls: type[RedisShares], client: Any, name: str, on_loss: OnLoss, tuning: SharesTuning
) -> RedisShares:
    return cls(client, name, on_loss=on_loss, tuning=tuning)


def _emit(seat: Seat, event: Any) -> None:
    if seat.emit is not None:
        seat.emit(event)
