"""Small calls put together: order, errors, cancellation, loops, and what it is for."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import weakref
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from fakes import FakeServer, all_at_once
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import (
    Batched,
    ErrorClassifier,
    InfeTransport,
    RateLimiter,
    Retry,
    Stack,
    call_options,
    errors,
    presets,
)
from resilient_infe.aio import current
from resilient_infe.testing import run_virtually


class Doubler:
    """A server that doubles numbers: a list in, a list out, in `seconds`."""

    def __init__(self, seconds=0.1, most=None, bad=(), status=400):
        self.seconds, self.most, self.bad, self.status = seconds, most, set(bad), status
        self.asked, self.at = [], []
        self.cancelled = 0

    async def __call__(self, items):
        """Answer one request."""
        self.asked.append(list(items))
        self.at.append(current().now())
        try:
            await anyio.sleep(self.seconds)
        except BaseException:
            self.cancelled += 1
            raise
        if self.bad & set(items):
            raise errors.InvalidRequestError("a bad item", status=400)
        if self.most is not None and len(items) > self.most:
            raise errors.InvalidRequestError("too large", status=self.status)
        return [2 * item for item in items]


def doubling(server, split=list, **options):
    """Return what puts calls to a doubler together."""
    options = {"count": lambda _: 1.0} | options
    return Batched(server, list, split, **options)


def test_many_calls_are_one_request(run):
    """Each caller gets the answer for its own item."""
    server = Doubler()
    batched = doubling(server)
    assert run(lambda: all_at_once(batched, range(100))) == [2 * item for item in range(100)]
    assert server.asked == [list(range(100))]
    found = batched.statistics()
    assert (found.items, found.requests, found.waiting, found.in_flight) == (100, 1, 0, 0)


def test_no_item_waits_longer_than_it_may(run):
    """A request goes when its first item has waited, or when it is full."""
    server = Doubler(seconds=0.0)

    async def test():
        batched, began = doubling(server, max_items=3, max_wait=0.5), current().now()
        async with anyio.create_task_group() as group:
            for item in range(5):
                group.start_soon(batched, item)
                await anyio.sleep(0.1)
        return [at - began for at in server.at]

    full, rest = run(test)
    assert full == pytest.approx(0.2, abs=0.01)
    assert rest == pytest.approx(0.8, abs=0.01)
    assert server.asked == [[0, 1, 2], [3, 4]]


def test_one_call_after_another_is_one_request_each(run):
    """There is nothing to put together."""
    server = Doubler()

    async def test():
        batched = doubling(server, max_wait=0.0)
        return [await batched(item) for item in range(3)]

    assert run(test) == [0, 2, 4]
    assert server.asked == [[0], [1], [2]]


def test_tokens_bound_a_request(run):
    """And an item that has more travels alone."""
    server = Doubler()
    batched = doubling(server, max_tokens=10, count=float)
    run(lambda: all_at_once(batched, [4, 5, 3, 99, 1]))
    assert sorted(server.asked) == [[1], [3], [4, 5], [99]]


def test_a_bad_item_fails_alone(run):
    """The others have their answers."""
    server = Doubler(bad=[13])
    results = run(lambda: all_at_once(doubling(server), range(64)))
    [failed] = [each for each in results if isinstance(each, Exception)]
    assert results[13] is failed
    assert isinstance(failed, errors.InvalidRequestError)
    assert [each for each in results if each is not failed] == [2 * n for n in range(64) if n != 13]
    assert len(server.asked) == 13  # the request, and two halves for each of six steps


def test_a_request_that_is_too_large_is_divided(run):
    """No item fails, and the next request has the size that the server takes."""
    server = Doubler(most=10, status=413)

    async def test():
        batched = doubling(server)
        first = await all_at_once(batched, range(100))
        before = len(server.asked)
        second = await all_at_once(batched, range(100))
        return first, second, server.asked[before:], batched.statistics()

    first, second, later, statistics = run(test)
    assert first == second == [2 * item for item in range(100)]
    assert max(map(len, later)) <= 10
    assert statistics.most == 7
    assert statistics.refused < 10


def test_a_request_that_is_wrong_fails_all(run):
    """Not after a request for each item."""
    server = Doubler(most=0)
    results = run(lambda: all_at_once(doubling(server), range(1_000)))
    assert all(isinstance(each, errors.InvalidRequestError) for each in results)
    assert len(server.asked) <= 23


def test_other_failures_are_those_of_each_item(run):
    """Such as a server that is down: nothing is divided."""

    async def down(_):
        raise errors.OverloadedError("down", status=503)

    async def test():
        batched = doubling(down)
        return await all_at_once(batched, range(10)), batched.statistics()

    results, statistics = run(test)
    assert all(isinstance(each, errors.OverloadedError) for each in results)
    assert statistics.requests == 1


def test_split_may_name_an_error_for_one_item(run):
    """An exception among the answers is raised for its item."""

    def split(answers):
        return [ValueError("odd") if answer == 4 else answer for answer in answers]

    results = run(lambda: all_at_once(doubling(Doubler(), split), range(4)))
    assert [type(each) for each in results] == [int, int, ValueError, int]


@pytest.mark.parametrize(
    "split", [lambda a: a[:-1], lambda a: [*a, 1], lambda _: 1 / 0, lambda _: 7]
)
def test_answers_that_do_not_match_fail_all(run, split):
    """Nobody gets the answer of another one."""
    results = run(lambda: all_at_once(doubling(Doubler(), split), range(4)))
    assert all(isinstance(each, Exception) for each in results)


def test_an_item_that_cannot_be_joined_fails_alone(run):
    """A bug in one item is not the others'."""

    def join(items):
        return [item + 0 for item in items]

    server = Doubler()
    batched = Batched(server, join, list, count=lambda _: 1.0)
    results = run(lambda: all_at_once(batched, [1, "x", 3]))
    assert [type(each) for each in results] == [int, TypeError, int]


def test_a_synchronous_send_is_refused(run):
    """With a reason."""
    [error] = run(lambda: all_at_once(doubling(lambda items: items), [1]))
    assert "async" in str(error)


@pytest.mark.parametrize("when", [0.01, 0.3])
def test_a_caller_may_go_away(run, when):
    """Before the send its item is dropped; after it the others have their answers all the same."""
    server, results = Doubler(seconds=1.0), {}

    async def test():
        batched = doubling(server, max_wait=0.1)

        async def ask(item):
            results[item] = await batched(item)

        async with anyio.create_task_group() as group:
            scopes = {}

            async def cancellable(item):
                with anyio.CancelScope() as scopes[item]:
                    await ask(item)

            for item in range(4):
                group.start_soon(cancellable, item)
            await anyio.sleep(when)
            scopes[1].cancel()
        return batched.statistics()

    statistics = run(test)
    assert results == {0: 0, 2: 4, 3: 6}
    [asked] = server.asked
    assert sorted(asked) == ([0, 2, 3] if when < 0.1 else [0, 1, 2, 3])
    assert (statistics.waiting, statistics.in_flight) == (0, 0)


def test_a_request_that_nobody_waits_for_is_cancelled(run):
    """And one that was never sent is not sent."""
    server = Doubler(seconds=100.0)

    async def test():
        batched = doubling(server)
        for seconds in (0.001, 1.0):
            with anyio.move_on_after(seconds):
                await all_at_once(batched, range(3))
        await anyio.sleep(0.1)
        return batched.statistics()

    statistics = run(test)
    assert server.cancelled == len(server.asked) == 1
    assert (statistics.waiting, statistics.in_flight) == (0, 0)


def test_the_rest_goes_on_when_a_part_is_cancelled(run):
    """The callers of the first half go away while the second half waits for it."""
    server, results = Doubler(seconds=1.0, most=2), {}

    async def test():
        batched = doubling(server)

        async def ask(item):
            results[item] = await batched(item)

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as first:

                    async def leave():
                        await anyio.sleep(1.5)
                        scope.cancel()

                    group.start_soon(leave)
                    for item in (0, 1):
                        first.start_soon(ask, item)
                    await anyio.lowlevel.checkpoint()
                    for item in (2, 3):
                        group.start_soon(ask, item)

    run(test)
    assert results == {2: 4, 3: 6}


def test_the_options_are_those_of_where_it_was_made(run):
    """A request is of many callers: none of them speaks for the others."""
    server = FakeServer(default={"data": [{"index": 0, "embedding": [1.0]}]})
    seen = []

    async def watch(call, call_next):
        seen.append((call.partition, dict(call.tags)))
        return await call_next(call)

    async def test():
        with call_options(partition="all", tags={"team": "search"}):
            embed = Batched.embeddings(Stack(watch, ErrorClassifier()).around(server), "m")
        with call_options(partition="mine"):
            return await embed("text")

    assert run(test) == [1.0]
    assert seen == [("all", {"team": "search"})]


def test_two_loops_are_told(run):
    """While it is in use elsewhere; an idle one moves to the next `asyncio.run`."""
    server = Doubler(seconds=0.0)
    batched = doubling(server)
    assert run(lambda: all_at_once(batched, range(3))) == [0, 2, 4]
    assert asyncio.run(batched(4)) == 8

    async def test():
        async with anyio.create_task_group() as group:
            group.start_soon(batched, 1)
            await anyio.lowlevel.checkpoint()
            elsewhere = pytest.raises(errors.WrongLoopError, match=r"Batched.*one per loop")
            with ThreadPoolExecutor(1) as pool, elsewhere:
                pool.submit(lambda: asyncio.run(batched(2))).result()

    run(test)


def test_a_loop_that_was_closed_is_forgotten():
    """Its items hang nowhere."""
    batched = doubling(Doubler(seconds=0.0), max_wait=30.0)
    loop = asyncio.new_event_loop()
    task = loop.create_task(batched(1))
    loop.run_until_complete(asyncio.sleep(0))  # noqa: TID251  # one turn of the loop
    loop.close()
    del task
    gc.collect()

    async def again():
        batched._packing.max_wait = 0.0
        return await batched(2)

    assert asyncio.run(again()) == 4


def test_when_the_loop_ends_nobody_hangs():
    """A request that is cut with the loop ends, and so do its callers."""
    batched, ended = doubling(Doubler(seconds=100.0), max_wait=0.0), []

    async def ask():
        try:
            await batched(1)
        finally:
            ended.append(True)

    async def main():
        task = asyncio.create_task(ask())
        for _ in range(5):
            await asyncio.sleep(0)  # noqa: TID251  # some turns of the loop
        return weakref.ref(task)

    asyncio.run(main())
    assert ended == [True]


def test_nothing_is_kept_alive(run):
    """An answer, and an exception that many share, are freed when the callers let go of them."""

    class Answer:
        pass

    async def test():
        kept = []

        class Down(errors.OverloadedError):
            def __init__(self):
                super().__init__("down", status=503)
                kept.append(weakref.ref(self))

        async def server(items):
            if items[0] == "fail":
                raise Down
            answers = [Answer() for _ in items]
            kept.extend(map(weakref.ref, answers))
            return answers

        batched = doubling(server)

        async def ask(item):
            with contextlib.suppress(errors.OverloadedError):
                await batched(item)

        gc.collect()
        gc.disable()
        try:
            for items in (range(3), ["fail"] * 3):
                async with anyio.create_task_group() as group:
                    for item in items:
                        group.start_soon(ask, item)
                await anyio.sleep(1.0)
            return [each() for each in kept]
        finally:
            gc.enable()

    assert run(test) == [None] * 4


def test_an_exception_that_many_share_keeps_its_trace(run):
    """It does not grow with each caller, and still says where it was raised."""

    async def down(_):
        raise errors.OverloadedError("down", status=503)

    def depth(error):
        trace, found = error.__traceback__, []
        while trace is not None:
            found.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        return found

    results = run(lambda: all_at_once(doubling(down), range(200)))
    assert len(depth(results[0])) < 10
    assert "down" in depth(results[0])


def test_ten_thousand_embeddings_at_600_a_minute(run):
    """Five requests and no wait to speak of, in place of 1,000 s one by one."""

    class Server(FakeServer):
        async def handle(self, call):
            await super().handle(call)
            data = [{"index": n, "embedding": [float(text)]}
                    for n, text in enumerate(call.payload["input"])]  # fmt: skip
            return {"data": data[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    server = Server(latency=0.2)

    async def test():
        stack = presets.batch(requests_per_minute=600)
        embed, began = Batched.embeddings(stack.around(server), "embed-small"), current().now()
        vectors = {}

        async def ask(number):
            vectors[number] = await embed(str(number))

        async with anyio.create_task_group() as group:
            for number in range(10_000):
                group.start_soon(ask, number)
        return vectors, current().now() - began

    vectors, seconds = run(test)
    assert vectors == {number: [float(number)] for number in range(10_000)}
    assert len(server.sent) == 5
    assert seconds < 3.0


def test_retries_and_limits_are_those_of_the_stack(run):
    """A request is one call there."""
    server = FakeServer([503, {"data": [{"index": 0, "embedding": [1.0]}]}])
    stack = Stack(
        Retry(3, uniform=lambda: 0.0), RateLimiter(requests_per_minute=60), ErrorClassifier()
    )
    embed = Batched.embeddings(stack.around(server), "m")
    assert run(lambda: embed("text")) == [1.0]
    assert stack.statistics().attempts == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(st.data())
def test_whoever_goes_away_the_others_are_answered(backend, data):
    """Whatever is bad, too large or slow, and whenever callers leave."""
    number = data.draw(st.integers(1, 12))
    arrives = data.draw(st.lists(st.floats(0, 1), min_size=number, max_size=number))
    leaves = data.draw(st.lists(st.none() | st.floats(0, 3), min_size=number, max_size=number))
    bad = data.draw(st.sets(st.integers(0, number - 1), max_size=3))
    server = Doubler(
        seconds=data.draw(st.sampled_from([0.0, 0.2])),
        most=data.draw(st.none() | st.integers(1, 12)),
        bad=bad,
    )
    ended = {}

    async def test():
        batched = doubling(server, max_items=data.draw(st.integers(1, 12)), max_wait=0.1)

        async def ask(item):
            await anyio.sleep(arrives[item])
            with anyio.move_on_after(math.inf if leaves[item] is None else leaves[item]):
                try:
                    ended[item] = await batched(item)
                except errors.InvalidRequestError as error:
                    ended[item] = error

        async with anyio.create_task_group() as group:
            for item in range(number):
                group.start_soon(ask, item)
        await anyio.sleep(1.0)
        return batched.statistics()

    statistics = run_virtually(test, backend=backend)
    assert (statistics.waiting, statistics.in_flight) == (0, 0)
    for item in range(number):
        found = ended.get(item)
        if item not in ended:
            assert leaves[item] is not None
        elif isinstance(found, Exception):
            assert item in bad
        else:
            assert found == 2 * item


@pytest.mark.parametrize(
    "make",
    [
        lambda: Batched(7, list, list),
        lambda: Batched(Doubler(), 7, list),
        lambda: Batched(Doubler(), list, lambda: 1),
        lambda: Batched(Doubler(), list, list, count=7),
        lambda: Batched(Doubler(), list, list, max_items=0),
        lambda: Batched.embeddings(InfeTransport("k"), "m"),
        lambda: Batched.embeddings(Stack(ErrorClassifier()).around(InfeTransport("k")), "m"),
    ],
)
def test_what_cannot_work_is_refused(make):
    """When it is made."""
    with pytest.raises(errors.ConfigurationError):
        make()
