"""The rate limit with classes and tenants: order, the burst, the trickle, deadlines."""

from __future__ import annotations

import math

import anyio
import pytest
from fakes import FakeServer, Remember
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import (
    Allowance,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    RateLimiter,
    Retry,
    Stack,
    errors,
)
from resilient_infe.core.priority import PRESENT_FOR
from resilient_infe.core.queue import BATCH, INTERACTIVE, NORMAL, Standing
from resilient_infe.rate.costs import costs_of


def asked(allowance, now, rank, tokens=0.0, tenant=None):
    """Ask for a reservation of a class, as the layer does."""
    costs = costs_of(tokens, None)
    taken = allowance.admit(costs, now, None, rank)
    if taken is None:
        taken = allowance.enqueue(costs, standing=Standing(rank, tenant))
        list(allowance.poll(now))
    return taken


def ranks(granted):
    """Return the classes of reservations."""
    return [each.standing.rank for each in granted]


def drained(allowance, now, until=math.inf):
    """Poll at each promised instant; return (instant, reservation) pairs."""
    found = []
    while allowance.due is not None and max(now, allowance.due) < until:
        now = max(now, allowance.due)
        granted = list(allowance.poll(now))
        assert granted, "woke at the promised instant and nobody was granted"
        found += [(now, each) for each in granted]
    return found


def test_the_highest_class_is_granted_first():
    """A call that comes last goes next, and each tenth grant is the batch's."""
    allowance = Allowance(requests_per_minute=600, burst=0.1)
    allowance.take(0.0)
    rows = [asked(allowance, 0.0, BATCH) for _ in range(200)]
    assert asked(allowance, 1.0, INTERACTIVE).granted
    for _ in range(200):
        asked(allowance, 1.0, INTERACTIVE)
    granted = [each for _, each in drained(allowance, 1.0, 11.0)]
    assert ranks(granted).count(BATCH) == pytest.approx(10, abs=1)
    assert [each for each in granted if each in rows] == rows[: ranks(granted).count(BATCH)]


def test_the_burst_is_for_the_highest_class_that_is_present():
    """A batch alone may spend it; beside calls of people it goes at an even pace."""
    alone = Allowance(requests_per_minute=600, burst=2.0)
    assert sum(asked(alone, 0.0, BATCH).granted for _ in range(50)) == 20
    shared = Allowance(requests_per_minute=600, burst=2.0)
    shared.settle(asked(shared, 0.0, INTERACTIVE), 0.5)
    rows = [asked(shared, 10.0, BATCH) for _ in range(50)]
    assert sum(row.granted for row in rows) == 1
    drained(shared, 10.0, 12.0)
    assert sum(row.granted for row in rows) == pytest.approx(20, abs=1)
    people = [asked(shared, 12.0, INTERACTIVE) for _ in range(30)]
    list(shared.poll(12.0))
    assert sum(each.granted for each in people) >= 18


def test_a_class_that_is_gone_keeps_no_burst():
    """A minute after its last call the batch may spend it."""
    allowance = Allowance(requests_per_minute=600, burst=2.0)
    asked(allowance, 0.0, NORMAL)
    assert sum(asked(allowance, PRESENT_FOR + 1, BATCH).granted for _ in range(50)) == 20


def test_a_batch_beside_calls_of_people_loses_nothing_to_late_timers():
    """At 60,000 RPM it is granted what a timer that is 20 ms late could not."""
    allowance = Allowance(requests_per_minute=60_000, burst=0.5)
    asked(allowance, 0.0, INTERACTIVE)
    for _ in range(5_000):
        asked(allowance, 1.0, BATCH)
    done, now = 0, 1.0
    while now < 4.0:
        now += 0.02
        done += len(list(allowance.poll(now)))
    assert done == pytest.approx(3_000, rel=0.02)


def test_calls_of_people_that_come_one_by_one_leave_the_batch_its_trickle():
    """They take the whole limit, and never wait for long: the batch has a tenth."""
    allowance = Allowance(requests_per_minute=600, burst=1.0)
    rows = [asked(allowance, 0.0, BATCH) for _ in range(300)]
    for number in range(1, 601):
        asked(allowance, number / 10, INTERACTIVE)
        list(allowance.poll(number / 10))
    assert 55 <= sum(row.granted for row in rows) <= 75


def test_tenants_of_a_class_share_by_the_scarcer_part_of_the_cost():
    """Where tokens bind, by tokens; where requests do, by requests."""
    for tpm, shares in ((12_000, 10.0), (1e9, 1.0)):
        allowance = Allowance(requests_per_minute=600, tokens_per_minute=tpm, burst=0.5)
        for _ in range(1_500):
            asked(allowance, 0.0, NORMAL, 1_000.0, "large")
            asked(allowance, 0.0, NORMAL, 100.0, "small")
        granted = [each for _, each in drained(allowance, 0.0, 600.0)]
        names = [each.standing.tenant for each in granted]
        assert names.count("small") / names.count("large") == pytest.approx(shares, rel=0.1)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 10.0, 400.0]), st.floats(0, 3)),
        max_size=60,
    ),
    st.sampled_from([None, 600, 6_000]),
    st.sampled_from([0.5, 2.0, "window"]),
)
def test_every_promise_is_kept_and_everyone_is_served(calls, tpm, burst):
    """With any classes, at the promised instant somebody is granted, and in the end all are."""
    allowance, now, waiting = Allowance(60, tpm, burst=burst), 1_000.0, []
    for rank, tokens, seconds in calls:
        now += seconds
        waiting.append(asked(allowance, now, rank, tokens, "ab"[rank % 2]))
        list(allowance.poll(now))
        assert allowance.statistics(now).waiting == sum(not each.granted for each in waiting)
    drained(allowance, now)
    assert all(each.granted for each in waiting)
    starts = sorted(each.granted_at for each in waiting)
    assert all(later - first > 60 for first, later in zip(starts, starts[60:], strict=False))


def test_a_deadline_looks_at_who_is_ahead_only(run):
    """A call of a person is not refused for the rows behind it; one of the batch is."""
    stack = Stack(Deadline(), RateLimiter(requests_per_minute=60), ErrorClassifier())
    send = stack.around(FakeServer())

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(lambda number=number: send(number, priority="batch"))
            await anyio.sleep(0.5)
            await send("person", priority="interactive", deadline=5.0)
            await send("other", priority="batch", tenant="other", deadline=5.0)
            with pytest.raises(errors.DeadlineExceeded):
                await send("row", priority="batch", deadline=5.0)
            group.cancel_scope.cancel()

    run(main)


def test_from_its_second_429_on_a_call_is_behind_its_class_alone(run):
    """It goes behind the others of its class, and not behind those of a lower one."""
    refused = [0]

    async def transport(payload):
        if payload == "unlucky" and refused[0] < 2:
            refused[0] += 1
            raise errors.RateLimitError("no", status=429)
        sent.append(payload)

    sent = []
    retry = Retry(backoff=ExponentialBackoff(0.1, 1.0, 0.1, "none"), uniform=lambda: 0.0)
    stack = Stack(retry, RateLimiter(requests_per_minute=60), ErrorClassifier())
    send = stack.around(transport)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: send("unlucky", priority="normal"))
            await anyio.sleep(0.01)
            for number in range(8):
                group.start_soon(lambda number=number: send(number, priority="normal"))
                group.start_soon(lambda number=number: send(f"row {number}", priority="batch"))

    run(main)
    first_row = sent.index("row 2")
    assert sent.index("unlucky") > sent.index(4)
    assert sent.index("unlucky") < first_row


def test_events_and_statistics_name_the_class(run):
    """`rate.waiting` and `call.finished` have it, and the statistics count who waits by class."""
    seen = Remember()
    stack = Stack(RateLimiter(requests_per_minute=60), ErrorClassifier(), listeners=[seen])
    send = stack.around(FakeServer())

    async def main():
        async with anyio.create_task_group() as group:
            await send(0)
            assert stack.statistics().allowances[None].waiting_by_class == {}
            for name in ("interactive", "batch", "batch", "batch"):
                group.start_soon(lambda name=name: send(1, priority=name, tenant="t"))
            await anyio.sleep(0.1)
            told = stack.statistics().allowances[None]
            assert sum(told.waiting_by_class.values()) == told.waiting
            assert told.waiting_by_class["batch"] >= 2

    run(main)
    assert {event.priority for event in seen.named("rate.waiting")} <= {"interactive", "batch"}
    finished = seen.named("call.finished")
    assert [(each.priority, each.tenant) for each in finished].count(("batch", "t")) == 3


def test_a_crowd_that_leaves_wakes_the_next(run):
    """Those that are cancelled pass nothing on, and the first that stays is granted in time."""
    stack = Stack(RateLimiter(requests_per_minute=60), ErrorClassifier())
    server = FakeServer()
    send = stack.around(server)

    async def main():
        await send("first")
        await send("second")
        async with anyio.create_task_group() as group, anyio.create_task_group() as crowd:
            for number in range(500):
                crowd.start_soon(lambda number=number: send(number, tokens=1.0))
            await anyio.sleep(0.2)
            group.start_soon(send, "last")
            await anyio.sleep(0.2)
            crowd.cancel_scope.cancel()

    run(main)
    assert server.payloads == ["first", "second", "last"]
    assert server.sent[2] - server.sent[0] == pytest.approx(1.0, abs=1.01)
    told = stack.statistics().allowances[None]
    assert (told.waiting, told.outstanding) == (0, 0)
