"""Spans: one of each call and of each attempt after the first, current while they run."""

from __future__ import annotations

import logging

import anyio
import pytest
from fakes import FakeServer, FakeStreams, all_at_once
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from resilient_infe import (
    AttemptTimeout,
    Call,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Hold,
    Kind,
    Reply,
    Retry,
    Stack,
    errors,
    presets,
    telemetry,
)
from resilient_infe.core.verdict import Usage, Verdict
from resilient_infe.fallback.layer import Fallback
from resilient_infe.fallback.targets import Target
from resilient_infe.hedge.layer import Hedge
from resilient_infe.telemetry.conventions import V0_1_0
from resilient_infe.telemetry.spans import Spans
from resilient_infe.testing import Errors, Faults, InfeModel, InProcessInfe, Scenario, Traffic

PAYLOAD = {"model": "infe-pulse", "messages": [{"role": "user", "content": "a secret"}]}

CURRENT = trace.get_current_span


def now_current():
    """Return the id of the current span, 0 for none."""
    return CURRENT().get_span_context().span_id


class Seeing(FakeServer):
    """A server that notes the current span of each attempt."""

    async def handle(self, call):
        """Answer one attempt."""
        seen = now_current()
        self.within = [*getattr(self, "within", []), seen]
        try:
            return await super().handle(call)
        finally:
            assert now_current() == seen


def traced(seen, *layers, **options):
    """Return a stack of these layers, with spans alone."""
    return telemetry.opentelemetry(Stack(*layers), metrics=False, **seen.providers, **options)


def test_a_call_is_one_span(run, seen, monkeypatch):
    """A call that succeeds at once is one span of kind CLIENT, with names, numbers and ids."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    stack = telemetry.opentelemetry(
        presets.batch(log=False), base_url="https://u:secret@api.infe.io/v1?key=secret",
        **seen.providers,
    )  # fmt: skip
    model = InfeModel()
    run(lambda: stack.around(InProcessInfe(model))(PAYLOAD, request_id="row-1"))
    [span] = seen.spans
    assert (span.name, span.kind, span.parent) == ("chat infe-pulse", SpanKind.CLIENT, None)
    assert span.status.status_code is StatusCode.UNSET
    shown = dict(span.attributes)
    tokens = shown.pop("gen_ai.usage.input_tokens") + shown.pop("gen_ai.usage.output_tokens")
    assert tokens == model.books.tokens
    assert shown.pop("gen_ai.response.id")
    assert shown.pop("resilient_infe.server_request_ids")
    assert shown == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "infe",
        "gen_ai.request.model": "infe-pulse",
        "gen_ai.response.model": "infe-pulse",
        "server.address": "api.infe.io",
        "server.port": 443,
        "resilient_infe.request_id": "row-1",
        "resilient_infe.attempts": 1,
    }
    assert "secret" not in span.to_json()


def test_an_attempt_after_the_first_is_a_child(run, seen):
    """Each has the number of those before it; the waits between them are events of the call."""
    server = Seeing(script=[502, (429, {"retry-after": "3"})])
    stack = traced(seen, Retry(), ErrorClassifier())
    run(lambda: stack.around(server)(PAYLOAD))
    second, third, call = seen.spans
    assert server.within == [each.context.span_id for each in (call, second, third)]
    assert [each.parent.span_id for each in (second, third)] == [call.context.span_id] * 2
    assert second.attributes == {
        "http.request.resend_count": 1,
        "http.response.status_code": 429,
        "error.type": "429",
    }
    assert second.status.status_code is StatusCode.ERROR
    assert third.attributes == {"http.request.resend_count": 2}
    assert call.attributes["resilient_infe.attempts"] == 3
    assert call.status.status_code is StatusCode.UNSET
    first, hinted = (dict(each.attributes) for each in call.events)
    assert first.pop("resilient_infe.seconds") > 0
    assert hinted.pop("resilient_infe.seconds") >= 3.0
    wait = {"resilient_infe.reason": "backoff"}
    assert first == {**wait, "resilient_infe.kind": "transient", "error.type": "502"}
    assert hinted == {**wait, "resilient_infe.kind": "rate_limited", "error.type": "429"}


def test_the_callers_context_is_what_it_was(run, seen):
    """After a call, a failure and an open stream, the caller's own span is current again."""
    tracer = seen.tracers.get_tracer("test")
    stack = traced(seen, ErrorClassifier())
    streams = FakeStreams()

    async def call():
        with tracer.start_as_current_span("mine"):
            mine = now_current()
            await stack.around(FakeServer())(PAYLOAD)
            assert now_current() == mine
            with pytest.raises(errors.InfeError):
                await stack.around(FakeServer(default=500))(PAYLOAD)
            assert now_current() == mine
            await stack.around(streams)(PAYLOAD)
            assert now_current() == mine
        assert len(seen.spans) == 3  # the stream is open
        streams.holds[0].close()
        return mine

    mine = run(call)
    assert [each.parent and each.parent.span_id for each in seen.spans] == [mine, mine, None, mine]


def test_a_stream_ends_its_span_when_it_is_closed(run, seen, monkeypatch):
    """Its usage and its end are in the span; so they are of the second attempt's."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    streams = FakeStreams(statuses=[503])
    stack = traced(seen, Retry(), ErrorClassifier())

    async def call():
        await stack.around(streams)(PAYLOAD)
        assert [each.name for each in seen.spans] == []
        await anyio.sleep(5.0)
        streams.holds[1].close(Usage(10, 20, 30, 4, 5, 6))

    run(call)
    attempt, span = seen.spans
    assert attempt.attributes["http.response.status_code"] == 200
    usage = {
        name.removeprefix("gen_ai.usage."): value
        for name, value in span.attributes.items()
        if name.startswith("gen_ai.usage.")
    }
    assert usage == {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read.input_tokens": 4,
        "cache_write.input_tokens": 5,
        "reasoning.output_tokens": 6,
    }
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] == 0.0


def test_a_stream_that_breaks_is_an_error(run, seen):
    """The verdict of a stream's end decides, not that of its begin."""
    stack = traced(seen, ErrorClassifier())

    class Breaking(FakeStreams):
        async def handle(self, call):
            self.call = call
            return await super().handle(call)

    streams = Breaking()

    async def call():
        await stack.around(streams)(PAYLOAD)
        streams.call.verdict = Verdict(Kind.TRANSIENT, error="StreamBroken")
        streams.holds[0].close()

    run(call)
    [span] = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "StreamBroken"


@pytest.mark.parametrize(
    ("layers", "server", "kind", "error"),
    [
        ([], FakeServer(default=401), "auth", "401"),
        ([], FakeServer(default=ValueError("a secret")), "unknown", "ValueError"),
        ([Deadline(1.0)], FakeServer(latency=9.0), "refused", "DeadlineExceeded"),
        (
            [],
            FakeServer(default={"error": {"code": "x", "type": "a secret"}}),
            "transient",
            "transient",
        ),
    ],
)
def test_how_a_call_failed(run, seen, layers, server, kind, error):
    """The class of the error is a status, a class or a kind, never a text of the server's."""
    stack = traced(seen, *layers, ErrorClassifier())

    async def call():
        try:
            await stack.around(server)(PAYLOAD)
        except Exception as failure:
            return failure
        return None

    run(call)
    [span] = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["resilient_infe.kind"] == kind
    assert span.attributes["error.type"] == error
    assert "secret" not in span.to_json()


def test_a_cancelled_call_is_no_error(run, seen):
    """Cancelled in an attempt, or while it waits: the span ends, and its context is restored."""
    stack = traced(seen, Retry(), ConcurrencyLimiter(1), ErrorClassifier())
    send = stack.around(FakeServer(script=["ok", 502], latency=2.0))

    async def call():
        for seconds in (1.0, 3.0):
            with anyio.move_on_after(seconds):
                await all_at_once(send, [PAYLOAD] * 2)
            assert now_current() == 0

    run(call)
    spans = [each for each in seen.spans if each.name != "attempt"]
    assert len(spans) == 4
    cancelled = [each for each in spans if each.attributes.get("error.type") == "cancelled"]
    assert len(cancelled) >= 3
    assert all(each.status.status_code is StatusCode.UNSET for each in cancelled)


def test_what_a_call_waited_for(run, seen):
    """A wait for a slot and one for the rate limit are events of the call that waited."""
    stack = presets.batch(concurrency=1, requests_per_minute=60, log=False)
    telemetry.opentelemetry(stack, metrics=False, **seen.providers)
    run(lambda: all_at_once(stack.around(FakeServer(latency=2.0)), [PAYLOAD] * 3))
    events = [event for span in seen.spans for event in span.events]
    assert {event.name for event in events} == {"resilient_infe.wait"}
    reasons = [event.attributes["resilient_infe.reason"] for event in events]
    assert "slot" in reasons


def test_a_hedge_and_a_fallback_are_attempts(run, seen):
    """A second attempt of a `Hedge`, and one at another transport, are children of the call."""
    slow = FakeServer(latency=lambda now: 9.0 if now < 1.0 else 0.0)
    run(lambda: traced(seen, Hedge(2.0, 1.0), ErrorClassifier()).around(slow)(PAYLOAD))
    first = seen.spans
    other = Seeing()
    target = Target("other", transport=other)
    stack = traced(seen, Fallback(target, on=Kind.SERVER_ERROR), ErrorClassifier())
    run(lambda: stack.around(FakeServer(default=500))(PAYLOAD))
    for attempt, call in (first, seen.spans[2:]):
        assert (attempt.name, call.name) == ("attempt", "chat infe-pulse")
        assert attempt.parent.span_id == call.context.span_id
        assert attempt.attributes["http.request.resend_count"] == 1
    assert other.within == [seen.spans[2].context.span_id]
    assert seen.spans[2].attributes["resilient_infe.partition"] == "other"


def test_nested_stacks_nest_their_spans(run, seen):
    """The span of an inner stack is a child of the outer one's."""
    inner = traced(seen, ErrorClassifier(), operation="inner")
    outer = traced(seen, ErrorClassifier(), operation="outer")
    run(lambda: outer.around(inner.around(FakeServer()))(PAYLOAD))
    below, above = seen.spans
    assert (below.name, above.name) == ("inner infe-pulse", "outer infe-pulse")
    assert below.parent.span_id == above.context.span_id


def test_a_stack_made_from_it_has_spans_too(run, seen):
    """`replace` and `without` keep them; one of each call."""
    stack = telemetry.opentelemetry(presets.batch(log=False), **seen.providers)
    changed = stack.replace(AttemptTimeout(9.0)).without(ConcurrencyLimiter)
    run(lambda: changed.around(FakeServer())(PAYLOAD))
    assert [each.name for each in seen.spans] == ["chat infe-pulse"]
    assert seen.values("calls", "kind") == {"ok": 1}


def test_the_names_of_spans_are_bounded(run, seen):
    """Of 10,000 models with hostile names, the first have a name of a span, others share one."""
    stack = traced(seen, ErrorClassifier())
    send = stack.around(FakeServer())
    names = ["\ud800", "x" * 10_000, "\0", "other", ""] + [f"model-{n}" for n in range(500)]

    async def call():
        for name in names:
            await send({"model": name} if name else "no mapping", partition=name or None)

    run(call)
    assert len(seen.spans) == len(names)
    assert len({each.name for each in seen.spans}) <= 102
    assert max(len(each.to_json()) for each in seen.spans) < 2_000


def test_a_span_that_is_not_recorded_is_current(run, seen):
    """A call that the sampler leaves out costs no attributes, and its trace is passed on."""
    seen.tracers.sampler = ALWAYS_OFF
    server = Seeing(script=[502])
    run(lambda: traced(seen, Retry(), ErrorClassifier()).around(server)(PAYLOAD))
    assert seen.spans == ()
    assert len(set(server.within)) == 1
    assert server.within[0]


def test_a_tracer_that_fails_ends_no_call(run, seen, caplog):
    """It is logged once, and the calls go on; at the start of a span and at its end."""

    class Failing:
        def on_start(self, span, parent_context=None):
            if len(calls) < 2:
                raise RuntimeError("start")

        def on_end(self, span):
            raise RuntimeError("end")

        def _on_ending(self, span):
            pass

        def shutdown(self):
            pass

    calls = []
    seen.tracers.add_span_processor(Failing())
    send = traced(seen, ErrorClassifier()).around(FakeServer())

    async def call():
        for number in range(4):
            calls.append(number)
            assert await send(PAYLOAD) == "ok"
            assert now_current() == 0

    with caplog.at_level(logging.ERROR):
        run(call)
    assert len(caplog.records) == 1


def test_a_span_that_fails_ends_no_call(run, seen, caplog):
    """Whatever is noted on it, of a wait, a stream or an end."""

    class Failing:
        def start_span(self, *arguments, **options):
            return self

        def get_span_context(self):
            return trace.INVALID_SPAN_CONTEXT

        def is_recording(self):
            return True

        def __getattr__(self, name):
            raise RuntimeError(name)

    stack = Stack(Retry(), ErrorClassifier())
    stack.listen(around=Spans(Failing(), V0_1_0, "chat", {}))
    assert run(lambda: stack.around(FakeServer(script=[502]))(PAYLOAD)) == "ok"
    streams = FakeStreams()
    assert run(lambda: stack.around(streams)(PAYLOAD)) == 200
    streams.holds[0].close()
    assert len(caplog.records) == 1


def test_a_span_that_cannot_be_described_ends(run, seen, caplog):
    """A usage of your own rule may be anything; the span comes without it."""

    def rule(result, error):
        return Verdict(Kind.OK, usage=Usage(None, "x", [])) if error is None else None

    send = traced(seen, ErrorClassifier(rule)).around(FakeServer())
    assert run(lambda: send(PAYLOAD)) == "ok"
    assert [each.name for each in seen.spans] == ["chat infe-pulse"]
    assert len(caplog.records) == 1


def test_nothing_is_kept_of_a_call(run, seen):
    """The watch does not stay on the call, which would be a cycle."""
    stack = traced(seen, ErrorClassifier())
    call = Call(PAYLOAD)
    run(lambda: stack.around(FakeServer()).run(call))
    assert call.state.watch is None


def test_a_simulated_outage_is_told_whole(simulate, seen):
    """Each call of a simulation is one span, and each further attempt another, with its parent."""
    stack = telemetry.opentelemetry(presets.service(log=False), **seen.providers)
    record = simulate(
        stack, Traffic(2.0, 30.0), Scenario(happenings=[Errors(10.0, 20.0, share=0.5)])
    )
    calls = [each for each in seen.spans if each.parent is None]
    attempts = [each for each in seen.spans if each.name == "attempt"]
    assert len(calls) == len(record.calls)
    assert len(attempts) > 0
    assert {each.parent.span_id for each in attempts} <= {each.context.span_id for each in calls}
    assert sum(each.attributes["resilient_infe.attempts"] for each in calls) == len(record.attempts)


def test_a_hold_that_is_closed_already(run, seen):
    """A stream that was read to its end before the call returned ends the span at once."""

    async def closed(call):
        call.hold = Hold()
        call.reply = Reply(200, {})
        call.hold.close()
        return "read"

    class Closed:
        handle = staticmethod(closed)

        async def __call__(self, payload):
            return payload

    run(lambda: traced(seen, ErrorClassifier()).around(Closed())(PAYLOAD))
    assert len(seen.spans) == 1


def test_faults_of_a_server_leave_no_span_open(run, seen):
    """Whatever breaks, every span that was started has ended."""
    stack = telemetry.opentelemetry(presets.service(log=False), metrics=False, **seen.providers)
    model = InfeModel(faults=Faults(script=[502, 429, 503, 401, 500, 529] * 3))
    run(lambda: all_at_once(stack.around(InProcessInfe(model)), [PAYLOAD] * 20))
    assert seen.started == len(seen.spans) > 20
