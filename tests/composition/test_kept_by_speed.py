"""What making the layers faster must not change."""

from __future__ import annotations

import asyncio
import logging

import pytest
import structlog
from fakes import FakeServer, Remember

from resilient_infe import (
    Deadline,
    ErrorClassifier,
    RateLimiter,
    RequestIdLogger,
    Stack,
    errors,
)
from resilient_infe.aio import current
from resilient_infe.classify.headers import Lowered, retry_after


def test_nothing_is_sent_after_the_deadline(run):
    """A call that reaches the rate limiter too late is refused, whatever is left of the rate."""
    server = FakeServer()

    async def slow(call, call_next):
        call.deadline = call.runtime.now() - 0.1  # as if something had kept the loop busy
        return await call_next(call)

    stack = Stack(Deadline(), slow, RateLimiter(requests_per_minute=600), ErrorClassifier())
    with pytest.raises(errors.DeadlineExceeded) as caught:
        run(lambda: stack.around(server)("x"))
    assert caught.value.retry_after is None
    assert server.sent == []


def test_the_time_of_a_success_counts_when_the_call_fails_after_it(run, caplog):
    """With DEBUG off, a call that fails after a good attempt still tells how long that took."""
    seen = Remember()
    seen.routine = False

    async def picky(call, call_next):
        await call_next(call)
        call.verdict = None
        raise ValueError("picky")

    stack = Stack(RequestIdLogger(), picky, ErrorClassifier(), listeners=[seen])
    with pytest.raises(ValueError, match="picky"):
        run(lambda: stack.around(FakeServer(latency=0.5))("x"))
    [finished] = seen.named("call.finished")
    assert finished.sent_for == pytest.approx(0.5)
    assert finished.waited == pytest.approx(0.0, abs=1e-6)


def test_a_level_that_is_lowered_later_is_seen(run, caplog):
    """Structlog's lazy logger is asked anew each time: DEBUG may be turned on while calls run."""
    entries = []

    def keep(_, __, event):
        entries.append(event["event"])
        raise structlog.DropEvent

    def configure(level):
        structlog.configure(
            processors=[keep],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=False,
        )

    send = Stack(RequestIdLogger(structlog.get_logger()), ErrorClassifier()).around(FakeServer())
    try:
        configure(logging.WARNING)
        run(lambda: send("x"))
        assert entries == []
        configure(logging.DEBUG)
        run(lambda: send("x"))
        assert "call.finished" in entries
    finally:
        structlog.reset_defaults()


def test_a_future_is_a_fine_answer():
    """A transport may return any awaitable, and a layer may run it as a task."""

    def transport(payload):
        future = asyncio.get_running_loop().create_future()
        future.set_result(payload)
        return future

    async def as_task(call, call_next):
        return await asyncio.create_task(call_next(call))

    async def main():
        return await Stack(ErrorClassifier(), as_task, strict=False).around(transport)("x")

    assert asyncio.run(main()) == "x"


def test_a_clock_that_was_put_on_a_loop_is_used():
    """A virtual clock may be an attribute of one loop only."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.time = lambda: 1_000_000.0
        try:
            return current().now()
        finally:
            del loop.time

    assert asyncio.run(main()) == 1_000_000.0


def test_a_header_that_comes_twice_alike_is_read_once():
    """Two proxies that each add the same Retry-After do not make it unreadable."""
    twice = Lowered.of([("Retry-After", "2"), ("retry-after", "2"), ("X-A", "1"), ("x-a", "2")])
    assert retry_after(twice) == 2.0
    assert twice["x-a"] == "1, 2"
