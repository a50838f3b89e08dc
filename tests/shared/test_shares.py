"""RedisShares: one limit over processes, on both loops, with a model of the store between them."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import anyio
import pytest
from fakes import Remember

from resilient_infe import ConcurrencyLimiter, ErrorClassifier, RateLimiter, Stack, errors, presets
from resilient_infe.aio import current
from resilient_infe.errors import ConfigurationError
from resilient_infe.shared import RedisShares
from resilient_infe.testing import run_virtually
from resilient_infe.testing.store import Connection, StoreModel

MINUTE = 60.0


class Noting:
    """A server that notes when each call came, and how many a window had."""

    def __init__(self, latency=0.05):
        """Note nothing yet."""
        self.times, self.latency = [], latency

    async def __call__(self, payload):
        """Answer."""
        self.times.append(current().now())
        await current().sleep_until(current().now() + self.latency)
        return payload

    def most(self, period=MINUTE):
        """Return the most calls in a window."""
        return max(sum(now <= each < now + period for each in self.times) for now in self.times)


class Fleet:
    """Processes with a limiter each, and one store."""

    def __init__(self, count=2, *, limit=600, server=None, listeners=(), on_loss="keep", **options):
        """Connect them."""
        self.store, self.server = StoreModel(), server or Noting()
        self.lines = [Connection(self.store) for _ in range(count)]
        self.shares = [RedisShares(line, on_loss=on_loss) for line in self.lines]
        self.stacks = [
            Stack(
                RateLimiter(requests_per_minute=limit, shared=each, **options),
                ErrorClassifier(),
                listeners=listeners,
            )
            for each in self.shares
        ]
        self.sends = [stack.around(self.server) for stack in self.stacks]

    async def busy(self, seconds, *members, workers=20, options=None):
        """Let members send all the time."""

        async def work(send):
            while True:
                await send({}, **(options or {}))

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for member in members:
                    for _ in range(workers):
                        tasks.start_soon(work, self.sends[member])

    def share(self, member):
        """Return the share of a member."""
        return sum(self.shares[member].statistics().shares.values())


def test_one_process_gets_nearly_all(run):
    """A process that is alone uses 98 % of the limit, and never more than all of it."""
    fleet = Fleet(1)
    run(partial(fleet.busy, 180.0, 0))
    late = [each for each in fleet.server.times if each >= 60.0]
    assert 0.98 * 1_200 <= len(late) <= 1_200
    assert fleet.server.most() <= 600


def test_a_share_moves_and_no_window_has_more_than_the_limit(run):
    """One process stops and another starts: the limit is used on, and not exceeded."""
    fleet = Fleet(2)

    async def main():
        await fleet.busy(90.0, 0)
        await fleet.busy(90.0, 1)
        await fleet.busy(60.0, 0, 1)

    run(main)
    assert fleet.server.most() <= 600
    assert len(fleet.server.times) >= 0.95 * 600 * 4


def test_a_call_after_a_rest_waits_for_one_round_trip(run):
    """A process that was idle asks at once: its call is not kept for a beat."""
    fleet = Fleet(1)

    async def main():
        await fleet.sends[0]({})
        assert fleet.share(0) > 0.0
        await current().sleep_until(30.0)
        assert fleet.share(0) == 0.0
        calls = fleet.store.calls
        await current().sleep_until(300.0)
        assert fleet.store.calls == calls
        before = current().now()
        await fleet.sends[0]({})
        return current().now() - before

    assert run(main) < 0.5


def test_calls_that_wait_for_a_slot_are_needed_too(run):
    """Slots bound what waits for the rate: behind them, most of the calls are not seen there."""
    fleet = Fleet(2)
    sends = [
        Stack(ConcurrencyLimiter(64), *stack.layers).around(fleet.server) for stack in fleet.stacks
    ]

    async def main():
        with anyio.move_on_after(20.0):
            async with anyio.create_task_group() as tasks:
                for member, calls in enumerate((900, 300)):
                    for _ in range(calls):
                        tasks.start_soon(sends[member], {})
        return fleet.share(0), fleet.share(1)

    many, few = run(main)
    assert many > 1.5 * few
    assert few > 0.15


def test_calls_that_the_slots_hold_up_are_not_needed(run):
    """A process with few slots and a long queue takes no more than its slots can use."""
    fleet = Fleet(2, server=Noting(latency=2.0))
    few = Stack(ConcurrencyLimiter(4), *fleet.stacks[0].layers).around(fleet.server)
    held = []

    async def main():
        with anyio.move_on_after(60.0):
            async with anyio.create_task_group() as tasks:
                for _ in range(500):
                    tasks.start_soon(few, {})
                tasks.start_soon(partial(fleet.busy, 60.0, 1, workers=60))
                while True:
                    await current().sleep_until(current().now() + 0.5)
                    held.append(fleet.share(1))

    run(main)
    late = held[20:]
    assert sum(late) / len(late) > 0.6


def test_classes_go_first_over_processes(run):
    """A batch in one process leaves the limit to people in another, but for a tenth."""
    fleet = Fleet(2)

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(fleet.busy, 60.0, 0, options={"priority": "batch"}))
            await fleet.busy(60.0, 1, options={"priority": "interactive"})
            return fleet.share(0), fleet.share(1)

    batch, people = run(main)
    assert batch == pytest.approx(0.1, abs=0.02)
    assert people == pytest.approx(0.9, abs=0.02)


def test_a_gate_is_shut_for_all_within_a_beat(run):
    """Three calls of one process are told to wait: the other process stops too."""
    events = Remember()
    fleet = Fleet(2, listeners=[events])

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet.busy, 20.0, 0, 1)
            await current().sleep_until(10.0)
            gate = next(iter(fleet.shares[0].seats.values()))[0].allowance.gate
            gate.heard(40.0, 10.0, "told")
            await current().sleep_until(12.0)
            other = next(iter(fleet.shares[1].seats.values()))[0].allowance.gate
            return other.ends

    assert run(main) == pytest.approx(40.0, abs=0.5)
    assert "rate.gate_closed" in {each.name for each in events.events}


def test_a_store_that_is_gone_is_reported_and_the_last_share_kept(run):
    """No call is lost; the sum stays below the limit; and the way back is without a jump."""
    events = Remember()
    fleet = Fleet(2, listeners=[events])

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet.busy, 200.0, 0, 1)
            await current().sleep_until(60.0)
            for line in fleet.lines:
                line.cut = True
            await current().sleep_until(90.0)
            during = fleet.share(0), fleet.share(1), fleet.shares[0].statistics().lost_for
            fleet.store.limits.clear()
            await current().sleep_until(120.0)
            for line in fleet.lines:
                line.cut = False
        return during

    first, second, lost_for = run(main)
    assert (first, second) == (pytest.approx(0.5, abs=0.05), pytest.approx(0.5, abs=0.05))
    assert lost_for > 25.0
    assert {"shares.lost", "shares.restored"} <= {each.name for each in events.events}
    assert fleet.server.most() <= 600
    assert len(fleet.server.times) >= 0.95 * 2_000


def test_fail_closed_sends_nothing_without_the_store(run):
    """With on_loss="stop" nothing goes once the lease is over, and it goes on afterwards."""
    fleet = Fleet(1, on_loss="stop")

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet.busy, 100.0, 0)
            await current().sleep_until(20.0)
            fleet.lines[0].cut = True
            await current().sleep_until(60.0)
            fleet.lines[0].cut = False

    run(main)
    assert not [each for each in fleet.server.times if 31.0 < each < 60.0]
    assert [each for each in fleet.server.times if each > 65.0]


def test_a_number_is_the_share_to_use_without_the_store(run):
    """Even before the store has answered once, if that was chosen."""
    fleet = Fleet(1, on_loss=0.5)
    fleet.lines[0].cut = True
    run(partial(fleet.busy, 120.0, 0))
    assert len(fleet.server.times) == pytest.approx(600, rel=0.05)


def test_a_call_with_a_deadline_does_not_wait_for_a_store_that_never_answers(run):
    """The deadline ends it, since nothing else can."""
    fleet = Fleet(1)
    fleet.lines[0].cut = True

    async def main():
        stack = presets.service(requests_per_minute=60, deadline=5.0, log=False)
        limiter = RateLimiter(requests_per_minute=60, shared=fleet.shares[0])
        send = stack.replace(limiter).around(fleet.server)
        with pytest.raises(errors.DeadlineExceeded):
            await send({})
        return current().now()

    assert run(main) <= 5.1


def test_leaving_frees_the_share_at_once(run):
    """Another process gets all of it with its next beat."""
    fleet = Fleet(2)

    async def main():
        await fleet.busy(20.0, 0, 1)
        async with fleet.shares[0]:
            pass
        assert fleet.store.held()["{infe}:all"] <= 0.6e9
        await fleet.busy(3.0, 1)
        return fleet.share(1)

    assert run(main) > 0.9


def test_a_cancelled_call_gives_nothing_away(run):
    """A call that stops waiting leaves the share as it is, and the next one is served."""
    fleet = Fleet(1)

    async def main():
        with anyio.move_on_after(0.0):
            await fleet.sends[0]({})
        with anyio.move_on_after(0.0001):
            await fleet.sends[0]({})
        return await fleet.sends[0]({"a": 1})

    assert run(main) == {"a": 1}


def test_each_partition_has_a_share_of_its_own_in_one_call(run):
    """One call to the store asks for all limits of a process."""
    store = StoreModel()
    shares = RedisShares(Connection(store))
    limiter = RateLimiter(
        requests_per_minute={"a": 60, "*": 600}, account={"requests_per_minute": 900}, shared=shares
    )
    send = Stack(limiter, ErrorClassifier()).around(Noting())

    async def main():
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(partial(send, number, partition="ab"[number % 2]))
        return store.calls

    calls = run(main)
    assert set(store.limits) == {"{infe}:model:a", "{infe}:model:b", "{infe}:account"}
    assert calls <= 2 * 35


def test_two_limiters_of_one_process_share_too(run):
    """Two stacks with one RedisShares are two members of the limit."""
    store = StoreModel()
    shares, server = RedisShares(Connection(store)), Noting()
    sends = [
        Stack(RateLimiter(requests_per_minute=600, shared=shares), ErrorClassifier()).around(server)
        for _ in range(2)
    ]

    async def main():
        async def work(send):
            while True:
                await send({})

        with anyio.move_on_after(90.0):
            async with anyio.create_task_group() as tasks:
                for send in sends * 10:
                    tasks.start_soon(work, send)

    run(main)
    assert server.most() <= 600
    assert len(store.limits["{infe}:all"].members) == 2


def test_a_day_is_counted_over_all_processes(run):
    """What the others have spent of a day is not there for this one."""
    fleet = Fleet(2, requests_per_day=300)

    async def main():
        await fleet.busy(20.0, 0, workers=5)
        spent = len(fleet.server.times)
        assert 100 < spent < 300
        refused = 0
        for _ in range(300):
            try:
                await fleet.sends[1]({})
            except errors.DayUsedUp:
                refused += 1
        return refused

    assert run(main) > 0
    assert len(fleet.server.times) <= 310


def test_it_goes_on_in_another_loop():
    """A second run begins with a share of its own."""
    store, server = StoreModel(), Noting()
    shares = RedisShares(lambda: Connection(store))
    limiter = RateLimiter(requests_per_minute=600, shared=shares)
    send = Stack(limiter, ErrorClassifier()).around(server)
    for backend in ("asyncio", "trio", "asyncio"):
        assert run_virtually(partial(send, "x"), backend) == "x"


def test_it_is_never_copied_and_pickles_without_its_client():
    """A copy is the object itself; what is pickled connects by itself."""
    shares = RedisShares("redis://127.0.0.1:1/0", "batch", on_loss="stop")
    assert copy.deepcopy(shares) is shares
    again = pickle.loads(pickle.dumps(shares))
    assert (again._name, again._on_loss, again._client) == (
        "batch", "stop", "redis://127.0.0.1:1/0"
    )  # fmt: skip


class Synchronous:
    """A client that does not wait."""

    def register_script(self, script):
        """Return nothing."""

    def execute_command(self, *args):
        """Return nothing."""


@pytest.mark.parametrize(
    ("client", "options"),
    [
        (None, {}),
        (7, {}),
        ("localhost", {}),
        (Synchronous(), {}),
        (Connection(StoreModel()), {"name": ""}),
        (Connection(StoreModel()), {"name": "a{b}"}),
        (Connection(StoreModel()), {"name": None}),
        (Connection(StoreModel()), {"on_loss": "open"}),
        (Connection(StoreModel()), {"on_loss": 1.5}),
        (Connection(StoreModel()), {"on_loss": float("nan")}),
    ],
)
def test_wrong_arguments_are_refused(client, options):
    """The message says what is wrong."""
    with pytest.raises(ConfigurationError):
        RedisShares(client, **options)


@pytest.mark.parametrize("reply", [[], ["x"] * 5, ["1"] * 7, None, 7, ["nan"] * 5, ["inf"] * 5])
def test_nonsense_of_the_store_is_a_store_that_is_gone(run, reply):
    """A wrong answer stops nothing, and raises nowhere."""

    class Mad:
        def register_script(self, _):
            async def script(keys, args):
                return reply

            return script

    shares = RedisShares(Mad(), on_loss=0.5)
    send = Stack(RateLimiter(requests_per_minute=600, shared=shares), ErrorClassifier()).around(
        Noting()
    )
    assert run(partial(send, "x")) == "x"
    assert shares.statistics().failures > 0
