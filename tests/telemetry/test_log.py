"""Logging: levels, where lines go, and what it costs when off."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import structlog
from fakes import FakeServer, Remember

from resilient_infe import CircuitBreaker, ErrorClassifier, RequestIdLogger, Retry, Stack, presets
from resilient_infe.telemetry.request_id import make_id


@pytest.fixture(autouse=True)
def unconfigured():
    """Leave structlog as it was found: capture_logs counts as configuring it."""
    yield
    structlog.reset_defaults()


def stack_of(**options):
    """Return a stack that logs."""
    return Stack(
        RequestIdLogger(**options), Retry(uniform=lambda: 0.0), CircuitBreaker(), ErrorClassifier()
    )


async def try_once(stack, server):
    """Make one call and forget what comes of it."""
    try:
        return await stack.around(server)({"prompt": "canary"}, tags={"team": "evals"})
    except Exception as error:
        return error


def names(caplog):
    """Return the event names of the log lines."""
    return [record.getMessage().split()[0] for record in caplog.records]


def test_success_is_silent_at_warning(run, caplog):
    """At WARNING a call that succeeds writes nothing."""
    caplog.set_level(logging.WARNING, "resilient_infe")
    run(lambda: try_once(stack_of(), FakeServer([502])))
    assert names(caplog) == []


def test_failure_is_told_at_warning(run, caplog):
    """A call that fails writes one line, with its id, kind and attempts."""
    caplog.set_level(logging.WARNING, "resilient_infe")
    run(lambda: try_once(stack_of(), FakeServer(default=500)))
    [record] = caplog.records
    message = record.getMessage()
    assert message.startswith("call.finished ")
    assert "kind='server_error'" in message
    assert "attempts=4" in message
    assert record.request_id
    assert "canary" not in message


def test_info_tells_of_retries(run, caplog):
    """At INFO each retry is told."""
    caplog.set_level(logging.INFO, "resilient_infe")
    run(lambda: try_once(stack_of(), FakeServer([502])))
    assert names(caplog) == ["retry.scheduled"]


def test_debug_tells_everything(run, caplog):
    """At DEBUG start, attempts, retry and end are told, with the same id."""
    caplog.set_level(logging.DEBUG, "resilient_infe")
    run(lambda: try_once(stack_of(), FakeServer([502])))
    assert names(caplog) == [
        "call.started", "attempt.finished", "retry.scheduled", "attempt.finished", "call.finished",
    ]  # fmt: skip
    assert len({record.request_id for record in caplog.records}) == 1


def test_listeners_and_log_both_get_events(run, caplog):
    """A listener gets every event whatever the log's level."""
    caplog.set_level(logging.WARNING, "resilient_infe")
    seen = Remember()
    stack = Stack(RequestIdLogger(), ErrorClassifier(), listeners=[seen])
    run(lambda: try_once(stack, FakeServer()))
    assert [e.name for e in seen.events] == ["call.started", "attempt.finished", "call.finished"]
    assert names(caplog) == []


def test_a_successful_call_builds_no_event_when_off(run, caplog, monkeypatch):
    """With DEBUG off, not one event object is made on the success path."""
    caplog.set_level(logging.WARNING, "resilient_infe")
    made = []
    from resilient_infe.telemetry.emitter import Emitter

    monkeypatch.setattr(Emitter, "__call__", lambda self, event: made.append(event))
    run(lambda: try_once(presets.service(), FakeServer()))
    assert made == []


def test_a_configured_structlog_is_used(run):
    """Where the application configured structlog, events go there as they are."""
    lines = []

    def capture(logger, method, event):
        lines.append(event)
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, capture],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    try:
        run(lambda: try_once(stack_of(), FakeServer([502])))
    finally:
        structlog.reset_defaults()
    assert [line["event"] for line in lines] == ["retry.scheduled"]
    assert lines[0]["kind"] == "transient"


def test_a_given_logger_is_used(run):
    """A bound logger of one's own takes the lines, and its context with them."""
    with structlog.testing.capture_logs() as lines:
        logger = structlog.get_logger().bind(service="evals")
        run(lambda: try_once(stack_of(logger=logger), FakeServer([502])))
    assert lines[0]["event"] == "call.started"
    assert all(line["service"] == "evals" for line in lines)


SCRIPT = """
import asyncio, sys
from resilient_infe import presets
async def transport(payload):
    if payload == "bad":
        raise KeyError("no")
    return payload
async def main():
    send = presets.batch().around(transport)
    await send("good")
    try:
        await send("bad")
    except KeyError:
        print("{}")
asyncio.run(main())
"""


def test_nothing_on_stdout():
    """Out of the box stdout stays the program's own; a failed call is told on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "{}\n"
    assert "call.finished" in done.stderr
    assert "kind='unknown'" in done.stderr


@pytest.mark.parametrize("given", ["row-17", "a.b:c_d", "x" * 128])
def test_a_good_id_is_kept(given, run):
    """An id that is safe to log is taken as it is."""
    seen = Remember()
    stack = Stack(ErrorClassifier(), listeners=[seen])
    run(lambda: stack.around(FakeServer())(None, request_id=given))
    assert seen.events[0].request_id == given


@pytest.mark.parametrize("given", ["a\r\nb", "\x1b[31m", "", "x" * 129, "\u202etxt", "ü"])
def test_a_hostile_id_is_replaced(given, run):
    """An id that could forge a log line is replaced."""
    seen = Remember()
    stack = Stack(ErrorClassifier(), listeners=[seen])
    run(lambda: stack.around(FakeServer())(None, request_id=given))
    made = seen.events[0].request_id
    assert made != given
    assert made.replace("-", "").isalnum()


def test_ids_are_unique():
    """No two ids are alike."""
    assert len({make_id() for _ in range(10_000)}) == 10_000


def test_a_forked_child_makes_other_ids():
    """A child process does not repeat its parent's ids."""
    code = (
        "import os; from resilient_infe.telemetry.request_id import make_id; make_id()\n"
        "os.fork() and os.wait()\n"
        "print(make_id(), flush=True)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    one, two = shown.stdout.split()
    assert one != two
