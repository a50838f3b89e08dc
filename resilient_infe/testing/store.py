"""A model of the Redis that holds the shares: what the script answers, and a line to it.

`StoreModel` computes what `shared.script` does, and the tests compare it with a real server. A
`Connection` is given to `RedisShares` in place of a client, and can be slow, lossy or cut off.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from .. import aio
from ..shared.script import ANSWERED, FIELDS, KEYS, SHARES

TRICKLE, HEADROOM, SETTLES, HOUR = 0.1, 2, 3_000, 3_600_000


@dataclass
class Limit:
    """What the store knows of one limit: its members, with needs, share and end of lease."""

    born: int
    gate: int = 0
    lost: bool = False
    members: dict[str, tuple[list[int], int, int]] = field(default_factory=dict)
    hours: dict[int, list[float]] = field(default_factory=dict)


class StoreModel:
    """The store, as a pure function of the time in milliseconds.

    Attributes:
        limits: the limits, by key.
        calls: how often the script was called.
    """

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.calls = 0

    def held(self) -> dict[str, int]:
        """Return the sum of the shares of each limit, in billionths."""
        return {
            key: sum(share for _, share, _ in limit.members.values())
            for key, limit in self.limits.items()
        }

    def call(self, keys: Sequence[str], args: Sequence[str], now: int) -> list[str]:
        """Return what the script answers at `now`, in milliseconds."""
        self.calls += 1
        answer: list[float] = []
        for place, key in enumerate(keys[::KEYS]):
            told = args[2 + place * FIELDS : 2 + (place + 1) * FIELDS]
            answer += self._one(key, f"{args[0]}:{told[8]}", int(args[1]), told, now)
        assert len(answer) == ANSWERED * (len(keys) // KEYS)
        return [f"{each:.0f}" for each in answer]

    def _one(self, key: str, me: str, lease: int, told: Sequence[str], now: int) -> list[float]:
        held, needs, shut = int(told[0]), [int(each) for each in told[1:4]], int(told[7])
        limit = self.limits.get(key) or Limit(now)
        is_known = limit.members.pop(me, None) is not None
        gone = sorted((end, name) for name, (_, _, end) in limit.members.items() if end <= now)
        for _, name in gone[:8]:
            del limit.members[name]
        free = max(0, SHARES - sum(share for _, share, _ in limit.members.values()))
        sums = [
            need + sum(each[rank] for each, _, _ in limit.members.values())
            for rank, need in enumerate(needs)
        ]
        want, keeps = _fair(needs, sums), min(held, free)
        if now - limit.born < SETTLES:
            limit.lost |= held > 0 and not is_known
            if held:
                want = min(want, keeps if limit.lost else max(keeps, free // 2))
            elif want:
                want = free // 4
        share = min(max(want, keeps), free)
        limit.gate = max(limit.gate, now + shut if shut else 0)
        if lease:
            self.limits[key] = limit
            limit.members[me] = needs, share, now + lease
        spent = [0.0, 0.0]
        if told[6] == "1":
            hour = limit.hours.setdefault(now // HOUR, [0.0, 0.0])
            hour[0] += float(told[4])
            hour[1] += float(told[5])
            kept = [limit.hours.get(now // HOUR - back, [0.0, 0.0]) for back in range(25)]
            spent = [sum(each[unit] for each in kept) for unit in range(2)]
        return [min(want, share), len(limit.members), max(0, limit.gate - now), *spent]


def _fair(needs: Sequence[int], sums: Sequence[int]) -> int:
    left, share = float(SHARES), 0.0
    for rank, (need, total) in enumerate(zip(needs, sums, strict=True)):
        kept = sum(min(each * 1_000.0, TRICKLE * SHARES) for each in sums[rank + 1 :])
        used = min(total * 1_000.0 * HEADROOM, max(0.0, left - kept))
        share += used * (need / total) if total else 0.0
        left -= used
    return math.floor(min(share, SHARES))


class StoreUnreachable(ConnectionError):
    """The store cannot be reached."""


@dataclass
class Connection:
    """A line to a `StoreModel`, as a client of Redis.

    Attributes:
        store: the model; another one from some time on is a server that forgot all.
        latency: returns the seconds of one way.
        loss: the share of calls whose request or answer is lost, each with half of it.
        cut: whether nothing gets through.
        rnd: the source of chance.
        ahead: how many seconds the clock of the store is ahead.
    """

    store: StoreModel
    latency: Callable[[], float] = lambda: 0.0005
    loss: float = 0.0
    cut: bool = False
    rnd: random.Random = field(default_factory=lambda: random.Random(7))
    ahead: float = 0.0

    def register_script(self, _: str) -> Callable[..., Awaitable[list[str]]]:
        """Return what calls the script."""

        async def script(keys: Sequence[str], args: Sequence[str]) -> list[str]:
            return await self._call(keys, args)

        return script

    async def _call(self, keys: Sequence[str], args: Sequence[str]) -> list[str]:
        runtime = aio.current()
        if self.cut:
            raise StoreUnreachable("cut off")
        lost = self.rnd.random()
        await runtime.sleep_until(runtime.now() + self.latency())
        if lost < self.loss / 2:
            await runtime.sleep_until(runtime.now() + 1e6)
        answer = self.store.call(keys, args, int((runtime.now() + self.ahead) * 1_000))
        await runtime.sleep_until(runtime.now() + self.latency())
        if lost < self.loss or self.cut:
            await runtime.sleep_until(runtime.now() + 1e6)
        return answer
