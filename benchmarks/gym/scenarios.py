"""What is run: servers of every kind, and what happens to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from resilient_infe import Allowance
from resilient_infe.testing.limits import Style, make_limit

from .newer import Nopanic, Polars
from .ours import Ours
from .rivals import AimdConcurrency, AimdRate, AwsAdaptive, Crowd, Oracle, VectorArc
from .servers import Hint, Outage, Server, Shedding, Waves
from .world import Network, Sender, Work

HALF_AN_HOUR = 1_800
CHANGED_AT = 913
"""Seconds after which a limit changes, at no special instant of anybody's period."""

OURS, ORACLE, POLITE = "resilient_infe", "oracle", "polite oracle"
WAYS = (
    OURS,
    "SDK backoff",
    "AWS adaptive",
    "AIMD on rate",
    "AIMD on concurrency",
    "Vector ARC",
    "nopanic",
    "Polars",
    ORACLE,
)
"""Ours, the rivals, and one that knows the limit."""

RIVALS = tuple(way for way in WAYS if way not in (OURS, ORACLE))

MEAN_LATENCY = 2.5
"""Seconds of an answer, on the average of the network's spread."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One server, and for how long.

    Attributes:
        name: as it stands in the table.
        per_minute: its limit.
        group: of the table.
        style, burst, hint, headers, noise, charge_rejected, changes: see `Server`.
        tokens_per_minute: a limit of tokens instead of one of requests.
        processes: senders that do not talk to each other.
        seconds: of virtual time.
        period, second, noise_hint, outages, shedding, waves: see `Server`; `second` is a limit
            as ``(style, units, period)``.
        declared: what the sender is told of the limit, in requests per minute.
        told: whether the senders are told that they share the limit.
        work: what each sender has to send; see `Work`.
    """

    name: str
    per_minute: float
    group: str
    style: Style = "bucket"
    burst: float = 1.0
    hint: Hint = "none"
    headers: bool = False
    noise: float = 0.0
    charge_rejected: bool = False
    changes: tuple[tuple[float, float], ...] = ()
    tokens_per_minute: float | None = None
    processes: int = 1
    seconds: int = HALF_AN_HOUR
    network: Network = field(default_factory=Network)
    period: float = 60.0
    second: tuple[Style, float, float] | None = None
    noise_hint: float | None = None
    outages: tuple[Outage, ...] = ()
    shedding: Shedding | None = None
    waves: Waves | None = None
    declared: float | None = None
    told: bool = False
    work: Work = field(default_factory=Work)

    @property
    def warm_up(self) -> int:
        """Seconds that are left out of the steady figures."""
        return min(180, self.seconds // 3)

    def server(self, seed: int = 0) -> Server:
        """Return the server, with nothing used."""
        second = self.second
        return Server(
            self.per_minute,
            tokens_per_minute=self.tokens_per_minute,
            style=self.style,
            burst=self.burst,
            hint=self.hint,
            headers=self.headers,
            noise=self.noise,
            charge_rejected=self.charge_rejected,
            changes=self.changes,
            seed=seed,
            period=self.period,
            second=second and make_limit(second[0], second[1], second[2], 1.0),
            noise_hint=self.noise_hint,
            outages=self.outages,
            shedding=self.shedding,
            waves=self.waves,
        )

    def work_of(self) -> Work:
        """Return what there is to send; a limit of tokens needs calls that cost some."""
        if self.tokens_per_minute is None or self.work.tokens:
            return self.work
        return replace(self.work, tokens=100.0)

    def senders(self, way: str, server: Server) -> list[Sender]:
        """Return the senders of one way of sending."""
        return [self._sender(way, server, number) for number in range(self.processes)]

    def _sender(self, way: str, server: Server, number: int) -> Sender:
        factor = max((each for _, each in self.changes), default=1.0)
        enough = max(20.0, 2 * self.per_minute / 60 * max(factor, 1.0) * MEAN_LATENCY)
        enough = math.ceil(enough / self.processes)
        makers: dict[str, Any] = {
            OURS: lambda: Ours(Allowance(self.declared)),
            "SDK backoff": lambda: Crowd(enough, number),
            "AWS adaptive": lambda: AwsAdaptive(enough),
            "AIMD on rate": AimdRate,
            "nopanic": lambda: Nopanic(enough / MEAN_LATENCY),
            "Polars": Polars,
            "AIMD on concurrency": lambda: AimdConcurrency(enough, number),
            "Vector ARC": lambda: VectorArc(enough, number),
            ORACLE: lambda: Oracle(lambda now: server.limit_at(now) / self.processes),
            POLITE: lambda: Oracle(self._share_of(server), self.tokens_per_minute, polite=True),
        }
        sender: Sender = makers[way]()
        return sender

    def _share_of(self, server: Server) -> Callable[[float], float]:
        """Return what each of the senders that have started may send, per minute."""
        second = math.inf if self.second is None else self.second[1] / self.second[2] * 60.0
        second = min(second, self.declared or math.inf)

        def share(now: float) -> float:
            apart = self.work.apart
            started = self.processes if not apart else min(self.processes, 1 + now // apart)
            return min(server.limit_at(now), second) / started

        return share


KINDS: tuple[tuple[str, Style, float], ...] = (
    ("bucket of 1 s", "bucket", 1.0),
    ("bucket of 60 s", "bucket", 60.0),
    ("fixed window", "fixed", 1.0),
    ("sliding window", "sliding", 1.0),
)


def _plain(per_minute: float, kind: tuple[str, Style, float], group: str = "steady") -> Scenario:
    name, style, burst = kind
    seconds = 180 if per_minute > 10_000 else HALF_AN_HOUR
    return Scenario(f"{per_minute:,.0f}, {name}", per_minute, group, style, burst, seconds=seconds)


def _but(base: Scenario, group: str, what: str, **changes: Any) -> Scenario:
    return replace(base, name=f"{base.name}, {what}", group=group, **changes)


def chosen() -> Iterator[Scenario]:
    """Yield the fixed choice of `make gym`."""
    bucket, full_bucket, fixed, sliding = KINDS
    for per_minute in (60, 600, 3_000, 30_000):
        for kind in KINDS:
            yield _plain(per_minute, kind)
    yield _plain(30, bucket)
    yield _plain(30, sliding)
    for kind in (bucket, fixed):
        yield _but(_plain(600, kind), "told", "Retry-After", hint="exact")
    for kind in (bucket, fixed, sliding):
        yield _but(_plain(600, kind), "told", "headers", headers=True)
    yield _but(_plain(600, bucket), "told badly", "Retry-After rounded", hint="rounded")
    yield _but(_plain(600, bucket), "told badly", "Retry-After a tenth", hint="lying")
    for kind in (bucket, fixed, sliding):
        yield _but(_plain(600, kind), "noise", "0.5 % random 429s", noise=0.005)
    yield _but(_plain(3_000, bucket), "noise", "0.5 % random 429s", noise=0.005)
    yield _but(_plain(600, bucket), "noise", "2 % random 429s", noise=0.02)
    for per_minute, kind in ((600, bucket), (600, fixed), (600, sliding), (3_000, full_bucket)):
        cut = ((CHANGED_AT, 1 / 3),)
        yield _but(_plain(per_minute, kind), "cut", "cut to a third", changes=cut)
    for per_minute, kind in (
        (60, full_bucket), (600, bucket), (600, fixed), (3_000, bucket), (3_000, sliding),
    ):  # fmt: skip
        raised = ((CHANGED_AT, 3.0),)
        yield _but(_plain(per_minute, kind), "raise", "raised threefold", changes=raised)
    yield _but(_plain(600, bucket), "others", "rejected calls charged", charge_rejected=True)
    tokens = replace(_plain(6_000, bucket), per_minute=6_000.0, name="60,000 tokens, bucket of 1 s")
    yield replace(tokens, group="others", tokens_per_minute=60_000.0)
    for kind in (bucket, fixed):
        yield _but(_plain(3_000, kind), "processes", "8 processes", processes=8)


def everything() -> Iterator[Scenario]:
    """Yield the full cross of `make gym-full`."""
    for per_minute in (30, 60, 600, 3_000, 30_000):
        for kind in KINDS:
            base = _plain(per_minute, kind)
            yield base
            for hint in ("exact", "rounded", "lying"):
                yield _but(base, "told", f"Retry-After {hint}", hint=hint)
            yield _but(base, "told", "headers", headers=True)
            for noise in (0.005, 0.02):
                yield _but(base, "noise", f"{noise:.1%} random 429s", noise=noise)
            yield _but(base, "others", "rejected calls charged", charge_rejected=True)
            middle = base.seconds * CHANGED_AT / HALF_AN_HOUR
            for what, factor in (("cut to a third", 1 / 3), ("raised threefold", 3.0)):
                group = "cut" if factor < 1 else "raise"
                yield _but(base, group, what, changes=((middle, factor),))
            yield _but(base, "processes", "8 processes", processes=8)


def against_rivals() -> list[Scenario]:
    """Return the 26 rows that every way plays: rivals are slow, and larger rows tell no more."""
    return [each for each in chosen() if 60 <= each.per_minute <= 600]
