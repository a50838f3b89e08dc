"""The event loop's side: parking, timers, cancellation, one loop at a time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import weakref

import anyio
import pytest
from fakes import FakeServer

from resilient_infe import (
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    ErrorClassifier,
    Keyed,
    Kind,
    RateLimiter,
    Slots,
    Stack,
    errors,
)
from resilient_infe.aio import clamp, current, is_cancellation, keep, keeper_of, wake
from resilient_infe.aio.keeper import KEEPERS
from resilient_infe.core.queue import Waiter
from resilient_infe.testing import run_virtually
from resilient_infe.testing.virtual import DeadlockError, LivelockError, VirtualLoop


def test_park_until_woken(run):
    """A parked task goes on when it is woken, and not before."""

    async def main():
        runtime, waiter, log = current(), Waiter(0), []

        async def parked():
            await runtime.park(waiter)
            log.append(runtime.now())

        async with anyio.create_task_group() as group:
            group.start_soon(parked)
            await runtime.sleep_until(runtime.now() + 5)
            assert log == []
            wake(waiter)
        return log, runtime.now()

    log, now = run(main)
    assert log == [now]


def test_wake_after_cancel_is_harmless(run):
    """A waiter that was cancelled while it was woken is not resumed twice."""

    async def main():
        runtime, waiter = current(), Waiter(0)
        with anyio.move_on_after(1) as scope:
            await runtime.park(waiter)
        wake(waiter)
        wake(waiter)
        await runtime.sleep_until(runtime.now() + 1)
        return scope.cancelled_caught

    assert run(main)


@pytest.mark.parametrize("when", [math.nan, -math.inf, -1.0, 0.0])
def test_clamp_never_goes_back(when):
    """An odd or past instant becomes now."""
    assert clamp(when, 10.0) == 10.0


def test_clamp_bounds_the_future():
    """An infinite instant becomes one that a timer can be set to."""
    assert math.isfinite(clamp(math.inf, 0.0))


def test_sleep_until_nan_ends(run):
    """Sleeping until NaN ends at once instead of never."""

    async def main():
        await current().sleep_until(math.nan)
        return True

    assert run(main)


def test_cut_off_in_time(run):
    """A block that ends in time is not touched."""

    async def main():
        runtime = current()
        with runtime.cut_off_after(5):
            await runtime.sleep_until(runtime.now() + 4)
            return runtime.now()
        return None

    start = run(lambda: _now())
    assert run(main) - start == pytest.approx(4, abs=1e-6)


async def _now():
    return current().now()


def test_cut_off_late(run):
    """A block that takes too long is cancelled at the instant, and what follows it runs."""

    async def main():
        runtime = current()
        start = runtime.now()
        with runtime.cut_off_after(5):
            await runtime.sleep_until(start + 100)
            return None
        return runtime.now() - start

    assert run(main) == pytest.approx(5, abs=1e-6)


@pytest.mark.parametrize("single", [False, True])
def test_a_disarmed_timer_never_fires(run, single):
    """A timer that is disarmed inside its block lets it take any time, and is ended as ever."""

    async def main():
        runtime = current()
        start = runtime.now()
        timer = runtime.cut_off_at(start + 5) if single else runtime.cut_off_after(5)
        with timer:
            timer.disarm()
            await runtime.sleep_until(start + 100)
            return runtime.now() - start
        return None

    assert run(main) == pytest.approx(100, abs=1e-6)


def test_cut_off_passes_exceptions(run):
    """An exception of the block is not swallowed."""

    async def main():
        with current().cut_off_after(5):
            raise KeyError("mine")

    with pytest.raises(KeyError):
        run(main)


def test_cut_off_leaves_an_outer_cancellation(run):
    """A cancellation from outside passes through, even in the same instant as the timer."""

    async def main():
        runtime = current()
        log = []
        with anyio.move_on_after(5) as scope:
            with runtime.cut_off_after(5):
                await runtime.sleep_until(runtime.now() + 100)
            log.append("swallowed")
            await anyio.lowlevel.checkpoint()
            log.append("went on")
        return scope.cancelled_caught, log

    caught, log = run(main)
    assert caught
    assert "went on" not in log


def test_cut_off_nested_inner_first(run):
    """Of two timers the inner, shorter one cuts only its own block."""

    async def main():
        runtime = current()
        start = runtime.now()
        log = []
        with runtime.cut_off_after(9):
            with runtime.cut_off_after(4):
                await runtime.sleep_until(start + 100)
            log.append(runtime.now() - start)
            await runtime.sleep_until(start + 100)
        log.append(runtime.now() - start)
        return log

    assert run(main) == pytest.approx([4, 9], abs=0.02)


def test_cut_off_outer_fires_while_inner_is_handled(run):
    """Two timers of the same instant: both blocks end, and nothing runs past the outer one."""

    async def main():
        runtime = current()
        start = runtime.now()
        with runtime.cut_off_after(5):
            with runtime.cut_off_after(5):
                await runtime.sleep_until(start + 100)
            await runtime.sleep_until(start + 200)
        return runtime.now() - start

    assert run(main) == pytest.approx(5, abs=0.02)


def test_cut_off_inner_fires_first_in_the_same_round():
    """Of two timers that ring in one round, the inner first, both blocks end as timed out."""

    async def main():
        runtime = current()
        start = runtime.now()
        log = []
        # Apart by less than the clock's resolution: both ring in one round, in this order.
        with runtime.cut_off_at(start + 5 + 1e-10):
            with runtime.cut_off_at(start + 5):
                await runtime.sleep_until(start + 100)
            log.append("the inner block ended")
            await runtime.sleep_until(start + 200)
        return log, runtime.now() - start

    log, took = run_virtually(main)
    assert log == ["the inner block ended"]
    assert took == pytest.approx(5, abs=0.05)


def test_cut_off_many_of_one_duration():
    """A thousand timers of one duration keep at most one timer of the loop armed."""

    async def main():
        runtime = current()
        loop = asyncio.get_running_loop()

        async def one():
            with runtime.cut_off_after(30):
                await runtime.sleep_until(runtime.now() + 1)

        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(one)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            armed = [h for h in loop._scheduled if not h.cancelled() and h.when() > 5]
        await runtime.sleep_until(runtime.now() + 60)
        return len(armed), len([h for h in loop._scheduled if not h.cancelled()])

    assert run_virtually(main) == (1, 0)


def test_an_early_external_cancel_is_not_swallowed():
    """A cancel that was requested before the block began is delivered, and is not taken as ours."""

    async def main():
        runtime = current()
        log = []

        async def victim():
            asyncio.current_task().cancel()
            try:
                with runtime.cut_off_after(1e-9):
                    await runtime.sleep_until(runtime.now() + 1)
                log.append("swallowed")
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

        task = asyncio.get_running_loop().create_task(victim())
        await asyncio.gather(task, return_exceptions=True)
        return log, task.cancelled()

    assert run_virtually(main) == (["cancelled"], True)


def test_alarm_rings_once_at_its_instant(run):
    """An alarm rings at the instant it was last set to, and only then."""

    async def main():
        runtime, rung = current(), []
        start = runtime.now()
        alarm = runtime.alarm(lambda when: rung.append((when - start, runtime.now() - start)))
        alarm.set(start + 10)
        alarm.set(start + 3)
        await runtime.sleep_until(start + 20)
        alarm.set(start + 30)
        alarm.set(None)
        await runtime.sleep_until(start + 40)
        return rung

    [(promised, actual)] = run(main)
    assert promised == pytest.approx(3)
    assert actual == pytest.approx(3)


def test_alarm_can_be_set_again_from_its_callback(run):
    """An alarm that sets itself again rings again."""

    async def main():
        runtime, rung = current(), []
        start = runtime.now()

        def ring(when):
            rung.append(round(when - start))
            if len(rung) < 3:
                alarm.set(when + 1)

        alarm = runtime.alarm(ring)
        alarm.set(start + 1)
        await runtime.sleep_until(start + 10)
        return rung

    assert run(main) == [1, 2, 3]


def test_keep_binds_once(run):
    """A policy is bound to its loop once, and the same keeper comes back."""

    async def main():
        slots = Slots(1)
        return keep(slots, current()) is keep(slots, current()) is keeper_of(slots)

    assert run(main)


def test_a_keeper_is_forgotten_with_its_policy(run):
    """A policy that nobody holds any more leaves nothing behind, nor to who has its identity."""

    async def main():
        slots = Slots(1)
        keep(slots, current())
        kept, identity = keeper_of(slots) is not None, id(slots)
        del slots
        gc.collect()
        return kept, identity in KEEPERS

    assert run(main) == (True, False)


@pytest.mark.parametrize("first", ["asyncio", "trio"])
@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_an_idle_policy_moves_to_the_next_loop(first, second):
    """An idle policy serves one run after another, on any backend."""
    slots = Slots(1)

    async def main():
        keep(slots, current())
        return slots.acquire() is None and slots.release() is None

    assert run_virtually(main, first)
    assert run_virtually(main, second)


def test_a_busy_policy_does_not_move():
    """A policy whose slots are held on a loop that may run again is refused on the next."""
    slots, first = Slots(1), asyncio.new_event_loop()

    async def take():
        keep(slots, current())
        slots.acquire()

    async def use():
        keep(slots, current())

    first.run_until_complete(take())
    with pytest.raises(errors.WrongLoopError, match="in use on another event loop"):
        run_virtually(use)
    first.close()
    run_virtually(use)
    assert slots.statistics().held == 0


@pytest.mark.parametrize("collected", [True, False], ids=["dropped", "kept"])
def test_a_loop_that_was_closed_holds_nothing(collected):
    """Tasks that were left in it hold no slot on the next loop, nor wake anybody when they go."""
    stack = Stack(
        ConcurrencyLimiter(2),
        RateLimiter(requests_per_minute=60_000),
        CircuitBreaker(),
        ErrorClassifier(),
    )

    async def server(seconds):
        await anyio.sleep(seconds)
        return "ok"

    send, kept = stack.around(server), []

    def left_in_the_middle():
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # asyncio tells of tasks that were dropped
        kept.extend(loop.create_task(send(60.0)) for _ in range(6))
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        assert (stack.statistics().slots[None].held, stack.statistics().waiting) == (2, 4)
        loop.close()
        if collected:
            kept.clear()
            gc.collect()

    async def again():
        return await asyncio.gather(*(send(0.0) for _ in range(6)))

    left_in_the_middle()
    assert run_virtually(again) == ["ok"] * 6
    kept.clear()
    gc.collect()
    assert (stack.statistics().slots[None].held, stack.statistics().waiting) == (0, 0)
    assert stack.statistics().allowances[None].outstanding == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_policy_of_a_running_loop_does_not_move(backend):
    """A policy that belongs to a loop that still runs is refused on a second one."""
    slots = Slots(1)

    async def inner():
        keep(slots, current())

    async def outer():
        keep(slots, current())
        errors_seen = []

        def second():
            try:
                run_virtually(inner)
            except errors.WrongLoopError as error:
                errors_seen.append(str(error))

        await anyio.to_thread.run_sync(second)
        return errors_seen

    [message] = anyio.run(outer, backend=backend)
    assert "still runs" in message


def test_no_loop_is_said_clearly():
    """Outside of any event loop the error says what to do."""
    with pytest.raises(RuntimeError, match="no event loop runs here"):
        current()


def test_cancellations_are_known(run):
    """The loop's own cancellation is recognised, and nothing else is."""

    async def main():
        seen = []
        with anyio.move_on_after(1):
            try:
                await anyio.sleep_forever()
            except BaseException as error:
                seen.append(is_cancellation(error))
                raise
        return seen

    assert run(main) == [True]
    assert not is_cancellation(TimeoutError())


def test_virtual_time_sees_a_deadlock(run):
    """A program that can never go on is told so instead of hanging."""

    async def main():
        await current().park(Waiter(0))

    with pytest.raises(DeadlockError):
        run(main)


def test_virtual_time_sees_a_livelock():
    """A program that spins without time moving is told so."""

    async def main():
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(LivelockError):
        run_virtually(main)


def test_virtual_time_has_no_threads():
    """A thread knows nothing of virtual time, so there is none."""

    async def main():
        await asyncio.get_running_loop().run_in_executor(None, print)

    with pytest.raises(RuntimeError, match="no threads"):
        run_virtually(main)


def test_virtual_time_is_fast_and_exact():
    """An hour passes at once, and a timer rings exactly when it is due."""

    async def main():
        runtime = current()
        await runtime.sleep_until(3600.0)
        return runtime.now()

    assert run_virtually(main) == 3600.0
    assert VirtualLoop.__doc__


def test_a_cancel_in_the_same_round_wins():
    """A cancel request between the timer's own and the task's next step is not swallowed."""

    async def main():
        runtime = current()
        loop = asyncio.get_running_loop()
        log = []

        async def victim():
            with runtime.cut_off_after(5):
                await runtime.sleep_until(runtime.now() + 100)
            log.append("swallowed")

        task = loop.create_task(victim())
        await anyio.lowlevel.checkpoint()
        loop.call_at(loop.time() + 5.0, task.cancel)  # rings in the same round as the timer
        await asyncio.gather(task, return_exceptions=True)
        return log, task.cancelled()

    assert run_virtually(main) == ([], True)


def test_a_cancel_that_is_swallowed_does_not_save_the_block():
    """Code that swallows a cancel request is cut off all the same, a moment later."""

    async def main():
        runtime = current()
        loop = asyncio.get_running_loop()

        async def stubborn():
            start = runtime.now()
            with runtime.cut_off_after(5):
                with contextlib.suppress(asyncio.CancelledError):  # and no uncancel()
                    await runtime.sleep_until(start + 100)
                await runtime.sleep_until(start + 200)
            return runtime.now() - start

        task = loop.create_task(stubborn())
        await anyio.lowlevel.checkpoint()
        loop.call_at(loop.time() + 4.999, task.cancel)
        return await task

    assert run_virtually(main) == pytest.approx(5.0, abs=0.1)


def test_a_slow_clean_up_of_a_real_cancel_is_left_alone():
    """A task that was cancelled and takes its time to clean up ends as cancelled."""

    async def main():
        runtime = current()
        loop = asyncio.get_running_loop()
        log = []

        async def tidy():
            with runtime.cut_off_after(5):
                try:
                    await runtime.sleep_until(100)
                finally:
                    await runtime.sleep_until(20)
            log.append("went on")

        task = loop.create_task(tidy())
        await anyio.lowlevel.checkpoint()
        loop.call_at(4.99, task.cancel)
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled(), log

    assert run_virtually(main) == (True, [])


def test_timers_of_many_instants_leave_nothing_behind():
    """Thousands of calls, each with a deadline of its own, leave no armed timer."""

    async def main():
        runtime = current()
        loop = asyncio.get_running_loop()
        for number in range(2_000):
            with runtime.cut_off_at(runtime.now() + 3_600 + number / 7):
                await anyio.lowlevel.checkpoint()
            if number % 100 == 0:
                await runtime.sleep_until(runtime.now() + 0.1)
        return len([h for h in loop._scheduled if not h.cancelled()]), len(runtime._lines)

    assert run_virtually(main) == (0, 0)


def test_spawned_clean_ups_run_and_end(run):
    """A clean-up in the background runs, its error is dropped, and a hanging one is given up."""
    log = []

    async def fine():
        log.append("fine")

    async def broken():
        log.append("broken")
        raise OSError

    async def main():
        runtime = current()
        for clean_up in (fine, broken, anyio.sleep_forever):
            runtime.spawn(clean_up)
        await runtime.sleep_until(runtime.now() + 10)

    run(main)
    assert sorted(log) == ["broken", "fine"]


def test_a_loop_is_left_as_fast_as_it_was():
    """Asking an object for its dict makes each look into it slower ever after, so it is not."""

    async def main():
        loop = asyncio.get_running_loop()
        assert current().now() > 0
        return [each for each in gc.get_referents(loop) if type(each) is dict and "_ready" in each]

    assert asyncio.run(main()) == []


def test_a_loop_with_a_clock_of_its_own_is_asked_for_it():
    """A clock that was put on the loop itself is read, and not the usual one."""

    async def main():
        loop = asyncio.get_running_loop()
        usual = loop.time
        loop.time = lambda: usual() + 1_000.0
        return current().now() - usual()

    assert asyncio.run(main()) > 900.0


def test_two_loops_of_one_thread_have_their_own_runtimes():
    """Loops that take turns in one thread keep their runtimes, and a closed one is forgotten."""
    one, two = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def runtime():
        return current()

    first = one.run_until_complete(runtime())
    assert two.run_until_complete(runtime()) is not first
    assert one.run_until_complete(runtime()) is first
    one.close()
    two.close()


def test_a_cancellation_swallowed_long_ago_delays_a_timer_a_little():
    """A task that survived a cancel is cut off all the same, some hundredths of a second late."""

    async def main():
        runtime = current()

        async def survivor():
            asyncio.current_task().cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await runtime.sleep_until(runtime.now())
            start = runtime.now()
            with runtime.cut_off_after(5):
                await runtime.sleep_until(start + 100)
                return None
            return runtime.now() - start

        return await asyncio.get_running_loop().create_task(survivor())

    took = run_virtually(main)
    assert took == pytest.approx(5.03, abs=1e-3)


@pytest.mark.parametrize("first", ["asyncio", "trio"])
@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_room_is_made_among_the_partitions_of_loops_that_are_over(first, second):
    """Each is asked by the clock of its own loop: an open circuit that has rested makes room."""
    circuits = Keyed(lambda: Circuit(consecutive_failures=1, open_for=5.0), max_keys=1)
    send = Stack(CircuitBreaker(circuits), ErrorClassifier()).around(FakeServer([503]))

    async def breaks():
        with pytest.raises(errors.OverloadedError):
            await send("x", partition="a")
        await anyio.sleep(10.0)

    async def next_one():
        return await send("x", partition="b")

    run_virtually(breaks, first)
    assert run_virtually(next_one, second) == "ok"


def test_what_a_closed_loop_held_makes_room_for_other_partitions():
    """The slot of a partition that nobody asks for again is free on the next loop, too."""
    slots = Keyed(lambda: Slots(1), max_keys=1)
    send = Stack(ConcurrencyLimiter(slots), ErrorClassifier()).around(FakeServer(latency=60.0))
    loop = asyncio.new_event_loop()
    kept = loop.create_task(send("x", partition="a"))
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.close()
    assert run_virtually(lambda: send("x", partition="b")) == "ok"
    assert not kept.done()


def test_a_task_of_a_closed_loop_is_no_failure_of_the_server():
    """When it is collected its call counts as cancelled, and opens no circuit."""
    stack = Stack(CircuitBreaker(Circuit(consecutive_failures=1)), ErrorClassifier())
    send, loop = stack.around(FakeServer(latency=60.0)), asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.create_task(send("x"))
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.close()
    gc.collect()
    told = stack.statistics()
    assert told.outcomes == {Kind.CANCELLED: 1}
    assert told.circuits[None].failures == 0


def test_two_layers_that_share_partitions_agree_on_what_was_used(run):
    """A partition that one of them has just used is not dropped for the other."""
    keyed = Keyed(lambda: Slots(1), max_keys=2)
    first, second = (
        Stack(ConcurrencyLimiter(keyed), ErrorClassifier()).around(FakeServer()) for _ in range(2)
    )

    async def main():
        await first("x", partition="hot")
        await second("x", partition="cold")
        await first("x", partition="hot")
        await second("x", partition="new")

    run(main)
    assert [key for key, _ in keyed.items()] == ["hot", "new"]


def test_partitions_that_make_room_are_freed_at_once(run):
    """Nothing of them waits for a garbage collection."""
    keyed = Keyed(lambda: Slots(1), max_keys=1)
    send = Stack(ConcurrencyLimiter(keyed), ErrorClassifier()).around(FakeServer())

    async def main():
        await send("x", partition="a")
        gone = weakref.ref(keyed.policies["a"])
        await send("x", partition="b")
        return gone()

    gc.disable()
    try:
        assert run(main) is None
    finally:
        gc.enable()
