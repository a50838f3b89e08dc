"""The page of the 429 says what the shipped presets do: its listings and its table are run."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

import pytest
from fakes import FakeServer, Remember, all_at_once

import resilient_infe
from resilient_infe import Kind, Reply, Retry, errors, presets
from resilient_infe.adapters.infe.replies import error_of
from resilient_infe.aio import current
from resilient_infe.testing import run_virtually

PAGE = (Path(resilient_infe.__file__).parent.parent / "docs/a-429-step-by-step.md").read_text()
STORY = PAGE.split("```python\n")[1].split("```")[0]
LISTING, LOG = (block.split("```")[0] for block in PAGE.split("```text\n")[1:])

HINT = {"retry-after": "2"}
NONE_LEFT = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "20s",
}
VARIANTS = {
    "`Retry-After: 2`": (HINT, None, presets.batch),
    "no hint": ({}, None, presets.batch),
    "code `concurrency_limit_exceeded`, no hint": ({}, "concurrency_limit_exceeded", presets.batch),
    "code `engine_overloaded`, no hint": ({}, "engine_overloaded", presets.batch),
    "code `insufficient_quota`": ({}, "insufficient_quota", presets.batch),
    "`Retry-After: 400`, over `max_hint`": ({"retry-after": "400"}, None, presets.batch),
    "`Retry-After: 2`, `presets.service` with 1 s to the deadline": (HINT, None, presets.service),
    "headers: 0 requests remain, reset in 20 s": (NONE_LEFT, None, presets.batch),
    "the same headers and `Retry-After: 2`": (NONE_LEFT | HINT, None, presets.batch),
}
"""The rows of the page's table: the headers and the code of the 429, and the preset."""


def made(preset, draw, *, deadline=1.1):
    """Return a preset whose jitter is a fixed draw, and what it tells."""
    heard = Remember()
    options = {"deadline": deadline} if preset is presets.service else {}
    stack = preset(requests_per_minute=600, listeners=[heard], **options)
    [retry] = [layer for layer in stack.layers if isinstance(layer, Retry)]
    retry._uniform = lambda: draw
    return stack, heard


class Server(FakeServer):
    """Answers once with a 429 of these headers and this code, then with 200, each after 0.1 s."""

    def __init__(self, headers, code):
        """Begin with the 429."""
        super().__init__(latency=0.1)
        self.rejection = Reply(429, headers, {"error": {"code": code}})

    async def handle(self, call):
        """Answer one attempt."""
        result = await super().handle(call)
        if len(self.sent) > 1:
            return result
        call.reply = self.rejection
        raise error_of(self.rejection)


def played(headers, code, preset, draw):
    """Return what one 429 brings: the events, the circuit's counts, when the next was sent."""
    server = Server(headers, code)
    stack, heard = made(preset, draw)
    send = stack.around(server)

    async def main():
        with contextlib.suppress(errors.InfeError):
            await send({})
        return current().now() - server.sent[0] - 0.1

    run_virtually(main)
    names = [event.name for event in heard.events if event.name != "call.started"]
    if len(server.sent) > 1:
        names = names[: names.index("attempt.finished", 1)]
    [circuit] = stack.statistics().circuits.values()
    successes = circuit.successes - (len(server.sent) > 1)
    counted = "failure" if circuit.failures else "success" if successes else "-"
    after = server.sent[1] - 0.1 if len(server.sent) > 1 else None
    return heard, names, counted, after


def test_the_story_is_the_listing():
    """The example of the page prints the listing of the page, to the letter."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(STORY, "example", "exec"), {"__name__": "example"})
    assert shown.getvalue() == LISTING


def test_the_story_is_logged_as_shown(caplog):
    """At INFO the story writes the five lines of the page."""
    caplog.set_level(logging.INFO, "resilient_infe")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(STORY, "example", "exec"), {"__name__": "example"})
    lines = [f"{each.levelname} {each.getMessage()}\n" for each in caplog.records]
    assert "".join(lines) == LOG


def row_of(name):
    """Return the row of the page's table that a variant's run makes."""
    low, names, circuit, soonest = played(*VARIANTS[name], 0.0)
    latest = played(*VARIANTS[name], 1.0)[-1]
    shut = [f"{event.delay:g} s" for event in low.named("rate.gate_closed")]
    second = "none"
    if soonest is not None:
        spread = f"{soonest:.4g} to {latest:.4g}" if latest > soonest + 1e-9 else f"{soonest:.4g}"
        second = f"{spread} s later"
    kind = low.named("attempt.finished")[0].kind.name
    gate = f"closed for {', then '.join(shut)}" if shut else "open"
    return [name, kind, circuit, gate, second, ", ".join(f"`{each}`" for each in names)]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_of_the_table_is_what_happens(name):
    """Each row of the page's table is what its run does."""
    assert f"| {' | '.join(row_of(name))} |" in PAGE


def test_every_row_of_the_table_is_run():
    """The table has no row that the tests do not run."""
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0].lstrip("| ") for line in rows[2:]] == list(VARIANTS)


def later(send):
    """Return a function that sends after so many seconds."""

    async def wait_and_send(seconds):
        await current().sleep_until(current().now() + seconds)
        return await send({})

    return wait_and_send


def sent_from(server, send, pauses):
    """Send calls after pauses, and return when each attempt was sent, from the start."""

    async def main():
        start = current().now()
        await all_at_once(later(send), pauses)
        return [round(instant - start, 3) for instant in server.sent]

    return run_virtually(main)


def test_a_429_sent_before_the_gate_closed_does_not_move_it():
    """The fourth of four calls in flight is told to wait longer, and only it waits longer."""
    server = FakeServer([(429, HINT)] * 3 + [(429, {"retry-after": "9"})], latency=0.1)
    stack, heard = made(presets.batch, 0.0)
    sent = sent_from(server, stack.around(server), [0.0, 0.0, 0.0, 0.05, 0.5])
    assert sent[:4] == [0.0, 0.0, 0.0, 0.05]
    assert sent[4] == 2.1  # a hint of 2 s has no question
    assert sent[-1] >= 9.15
    assert [event.delay for event in heard.named("rate.gate_closed")] == [2.0]


def test_a_question_that_is_refused_moves_the_gate_by_a_second():
    """While the questions of a stop are refused, one call goes a second, and no limit falls."""
    long = (429, {"retry-after": "60"})
    server = FakeServer([long] * 5, latency=0.1)
    stack, heard = made(presets.batch, 0.0)
    sent = sent_from(server, stack.around(server), [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5])
    assert sent[3:6] == [1.1, 2.2, 3.3]
    assert [event.delay for event in heard.named("rate.gate_closed")] == [1.0, 1.0, 1.0]


def test_each_429_is_a_step_of_the_backoff():
    """After a hint of 2 s a bare 429 waits 2 s, and the next 4 s, though the hint is 2 s again."""
    server = FakeServer([(429, HINT), 429, (429, HINT)])
    stack, heard = made(presets.batch, 0.0)
    assert run_virtually(lambda: stack.around(server)({})) == "ok"
    assert [event.delay for event in heard.named("retry.scheduled")] == [2.0, 2.0, 4.0]


def test_one_call_alone_narrows_the_slots_by_half():
    """A server that takes fewer at once gets 32 of 64, and is not asked for a lower rate."""
    heard, *_ = played(*VARIANTS["code `concurrency_limit_exceeded`, no hint"], 0.0)
    [narrowed] = heard.named("slots.narrowed")
    assert (narrowed.old, narrowed.new) == (64, 32)


def test_the_reasons_to_stop_are_those_of_the_page():
    """The page quotes the reason of a long hint; that of a deadline gives both times."""
    long, late = list(VARIANTS)[5:7]
    [stopped] = played(*VARIANTS[long], 0.0)[0].named("retry.stopped")
    assert stopped.reason in " ".join(PAGE.split())
    [stopped] = played(*VARIANTS[late], 0.0)[0].named("retry.stopped")
    assert "in 2 s at the earliest, and 1 s remain" in stopped.reason


def test_a_deadline_before_the_next_question_is_refused_at_once():
    """The next call of a service is refused with the time until the gate lets a call go."""
    stack, _ = made(presets.service, 0.0)
    send = stack.around(FakeServer([(429, HINT)] * 3))

    async def main():
        told = await all_at_once(lambda _: send({}), range(3))
        return [*told, *await all_at_once(lambda _: send({}, deadline=1.0), ["late"])]

    *told, late = run_virtually(main)
    assert {type(each) for each in told} == {errors.RateLimitError}
    assert isinstance(late, errors.DeadlineExceeded)
    assert late.retry_after == 2.0


def test_a_service_counts_429s():
    """A service makes 4 attempts at 429s, none out of its budget: its rate limiter bounds them."""
    server = FakeServer(default=429)
    stack, heard = made(presets.service, 0.0, deadline=120.0)
    with pytest.raises(errors.RateLimitError):
        run_virtually(lambda: stack.around(server)({}))
    assert len(server.sent) == 4
    assert stack.statistics().budget.withdrawn == 0
    assert heard.named("retry.stopped")[0].reason == "max_attempts=4 reached"
    assert heard.named("call.finished")[0].kind is Kind.RATE_LIMITED
