"""OpenTelemetry: the metrics of a stack, and their names."""

from __future__ import annotations

import gc
import re
import subprocess
import sys

import pytest
from fakes import FakeServer, all_at_once
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from resilient_infe import (
    Circuit,
    CircuitBreaker,
    ErrorClassifier,
    Kind,
    Retry,
    Stack,
    errors,
    presets,
    telemetry,
)
from resilient_infe.hedge.layer import Hedge
from resilient_infe.telemetry.conventions import V0_1_0, V1_36, chosen, error_type
from resilient_infe.telemetry.measured import MOST_DIMENSIONED, MOST_PARTITIONS, OTHER, Labels
from resilient_infe.telemetry.metrics import COUNTERS, GAUGES
from resilient_infe.testing import Faults, InfeModel, InProcessInfe

PAYLOAD = {"model": "infe-pulse", "messages": [{"role": "user", "content": "a secret"}]}

SWITCH = "OTEL_SEMCONV_STABILITY_OPT_IN"

V0_1_0_NAMES = {
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.request.stream",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "error.type",
    "server.address",
    "server.port",
    "http.request.resend_count",
    "http.response.status_code",
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
}
"""What GenAI conventions v0.1.0, and those of HTTP for an attempt, name of what is reported."""

V1_36_NAMES = {
    "gen_ai.operation.name",
    "gen_ai.system",
    "gen_ai.request.model",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "error.type",
    "server.address",
    "server.port",
    "http.request.resend_count",
    "http.response.status_code",
    "gen_ai.client.operation.duration",
    "gen_ai.client.token.usage",
    "gen_ai.token.type",
}
"""The same of semantic conventions v1.36."""


def all_names(conventions):
    """Return every name of a table."""
    values = [getattr(conventions, field) for field in conventions.__dataclass_fields__]
    maps = [value for value in values if isinstance(value, dict)]
    return {value for value in values if isinstance(value, str)}.union(*(m.values() for m in maps))


def test_every_name_is_one_of_the_conventions():
    """Both tables hold the names of their version, all of them, and no others."""
    assert all_names(V0_1_0) - {"gen_ai.token.type"} == V0_1_0_NAMES  # of a metric it has not
    assert all_names(V1_36) == V1_36_NAMES


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, V1_36),
        ("", V1_36),
        ("http", V1_36),
        ("gen_ai_latest_experimental", V0_1_0),
        ("http/dup, gen_ai_latest_experimental ,database", V0_1_0),
        ("gen_ai_latest_experimental/dup", V1_36),
    ],
)
def test_the_switch_chooses_the_conventions(value, expected):
    """The newest ones where the list has their word; else the older names."""
    assert chosen(value) is expected


def sent(run, seen, monkeypatch, switch="gen_ai_latest_experimental", **options):
    """Attach a stack's metrics after it was put around a server, and send four rows."""
    monkeypatch.setenv(SWITCH, switch)
    model = InfeModel(faults=Faults(script=[502, 401]), latency=0.5)
    stack = presets.batch(requests_per_minute=600, concurrency=7, log=False)
    send = stack.around(InProcessInfe(model))
    assert telemetry.opentelemetry(stack, **seen.providers, **options) is stack
    run(lambda: all_at_once(send, [PAYLOAD] * 4))
    return model, stack


def test_the_metrics_of_the_conventions(run, seen, monkeypatch):
    """Durations by model and error, and the tokens as counters."""
    model, stack = sent(run, seen, monkeypatch, base_url="http://[::1]/v1")
    metrics = seen.metrics()
    fixed = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "infe",
        "gen_ai.request.model": "infe-pulse",
        "server.address": "::1",
        "server.port": 80,
    }
    by_error = {
        each.attributes.get("error.type"): each
        for each in metrics["gen_ai.client.inference.duration"]
    }
    assert by_error[None].attributes == fixed
    assert by_error["401"].attributes == {**fixed, "error.type": "401"}
    assert (by_error[None].count, by_error["401"].count) == (3, 1)
    assert by_error[None].explicit_bounds[-1] == 81.92
    parts = ("input_tokens", "output_tokens")
    points = [metrics[f"gen_ai.client.inference.usage.{part}"] for part in parts]
    assert sum(point.value for [point] in points) == model.books.tokens
    assert [point.attributes for [point] in points] == [fixed] * 2
    assert "gen_ai.client.token.usage" not in metrics
    assert stack.statistics().calls == 4


@pytest.mark.parametrize("sampled", [True, False])
def test_the_time_to_the_first_chunk(run, seen, monkeypatch, sampled):
    """Of streams alone, from the last send; also of those whose spans are not recorded."""
    monkeypatch.setenv(SWITCH, "gen_ai_latest_experimental")
    if not sampled:
        seen.tracers.sampler = ALWAYS_OFF
    stack = telemetry.opentelemetry(Stack(Retry(), ErrorClassifier()), **seen.providers)
    server = InProcessInfe(InfeModel(faults=Faults(script=[502]), latency=0.5))

    async def call():
        await stack.around(server)(PAYLOAD)
        async for _ in await stack.around(server.stream)(PAYLOAD):
            pass

    run(call)
    metrics = seen.metrics()
    [point] = metrics["gen_ai.client.inference.time_to_first_chunk"]
    assert (point.count, point.sum) == (1, pytest.approx(0.5, abs=0.1))
    assert point.attributes["gen_ai.request.model"] == "infe-pulse"
    assert metrics["gen_ai.client.inference.duration"][0].count == 2
    assert len(seen.spans) == (3 if sampled else 0)


def test_the_metrics_by_the_older_names(run, seen, monkeypatch):
    """Tokens are a histogram, by their type."""
    model, _ = sent(run, seen, monkeypatch, switch="")
    metrics = seen.metrics()
    assert {each.count for each in metrics["gen_ai.client.operation.duration"]} == {3, 1}
    tokens = metrics["gen_ai.client.token.usage"]
    assert sum(point.sum for point in tokens) == model.books.tokens
    assert {point.attributes["gen_ai.token.type"] for point in tokens} == {"input", "output"}
    assert {point.attributes["gen_ai.system"] for point in tokens} == {"infe"}
    assert not [name for name in metrics if name.startswith("gen_ai.client.inference")]


def test_our_own_metrics(run, seen, monkeypatch):
    """Counters, and what the policies say when it is exported."""
    _, stack = sent(run, seen, monkeypatch, name="one")
    assert seen.values("calls", "kind") == {"ok": 3, "auth": 1}
    assert seen.values("attempts", "kind") == {"ok": 3, "auth": 1, "transient": 1}
    assert seen.values("retries", "kind") == {"transient": 1}
    assert seen.values("wait", "reason")["backoff"] > 0
    assert seen.values("slots.limit", "partition") == {"infe-pulse": 7}
    assert seen.values("rate.limit", "dimension") == {"requests": 600}
    assert seen.values("circuits", "state") == {"closed": 1}
    assert seen.values("in_flight", "partition") == {None: 0}
    assert stack.statistics().in_flight == 0
    for name, points in seen.metrics().items():
        if name.startswith("resilient_infe."):
            assert {each.attributes["resilient_infe.stack"] for each in points} == {"one"}


def test_every_metric_of_ours_is_there(run, seen):
    """Hedges, an open circuit, a closed gate and a budget: no name of the table is missing."""
    breaker = CircuitBreaker(Circuit(minimum_calls=1, window=9.0, open_for=60.0))
    server = InProcessInfe(InfeModel(faults=Faults(script=[503]), latency=0.1))
    plain = telemetry.opentelemetry(Stack(breaker, ErrorClassifier()), name="a", **seen.providers)
    run(lambda: all_at_once(plain.around(server), [PAYLOAD]))
    slow = FakeServer(latency=lambda now: 9.0 if now < 1.0 else 0.0)
    hedged = Stack(Hedge(2.0, 1.0), ErrorClassifier())
    telemetry.opentelemetry(hedged, name="b", **seen.providers)
    run(lambda: hedged.around(slow)(PAYLOAD))
    full = presets.service(requests_per_minute=60, log=False)
    telemetry.opentelemetry(full, name="c", **seen.providers)
    hinted = FakeServer(script=[(429, {"retry-after": "3"})] * 3)
    run(lambda: all_at_once(full.around(hinted), [PAYLOAD] * 4))
    ours = {name for name in seen.metrics() if name.startswith("resilient_infe.")}
    without = {f"resilient_infe.{each.name}" for each in (*COUNTERS, *GAUGES)} - ours
    assert without <= {"resilient_infe.tokens", "resilient_infe.retry.budget"}
    assert seen.values("hedges", "kind") == {"sent": 1, "won": 1}
    assert seen.values("circuit.openings", "partition")


def test_the_number_of_series_is_bounded(run, seen):
    """Of 10,000 partitions with hostile names, the first have series, and the rest share one."""
    stack = telemetry.opentelemetry(Stack(ErrorClassifier()), spans=False, **seen.providers)

    async def answer(payload):
        return payload

    send = stack.around(answer)
    names = ['a"b\\c\n', "\ud800", "x" * 10_000, "\0", OTHER]
    names += [f"model-{number}" for number in range(10_000)]

    async def call():
        for name in names:
            await send(1, partition=name)

    run(call)
    metrics = seen.metrics()
    calls = metrics["resilient_infe.calls"]
    assert len(calls) <= MOST_PARTITIONS + 1
    assert sum(each.value for each in calls) == len(names)
    durations = metrics["gen_ai.client.operation.duration"]
    assert len(durations) <= MOST_PARTITIONS + 1
    assert sum(each.count for each in durations) == len(names)
    texts = [str(value) for each in durations for value in each.attributes.values()]
    assert max(map(len, texts)) <= 128


def test_a_model_is_not_a_partition(run, seen):
    """Where a partition has a name of its own, the model is the payload's, or a fallback's."""
    stack = telemetry.opentelemetry(Stack(ErrorClassifier()), **seen.providers)
    run(lambda: stack.around(FakeServer())(PAYLOAD, partition="eu"))
    [duration] = seen.metrics()["gen_ai.client.operation.duration"]
    assert duration.attributes["gen_ai.request.model"] == "infe-pulse"
    assert seen.spans[0].attributes["resilient_infe.partition"] == "eu"
    assert seen.values("calls", "partition") == {"eu": 1}


def test_own_dimensions(run, seen):
    """`enrich` adds attributes to what is counted of calls; those of ours are left alone."""

    def enrich(event):
        own = {"team": event.tags.get("team"), "app.tier": 1, "none": None, "empty": ""}
        return {**own, "gen_ai.request.model": "x", "resilient_infe.kind": "x", "bad name": 1, 2: 3}

    stack = telemetry.opentelemetry(Stack(ErrorClassifier()), enrich=enrich, **seen.providers)
    send = stack.around(FakeServer())

    async def call():
        await send(PAYLOAD, tags={"team": "evals"})
        await send(PAYLOAD)

    run(call)
    metrics = seen.metrics()
    for name in ("gen_ai.client.operation.duration", "resilient_infe.calls"):
        own = [
            {key: value for key, value in each.attributes.items() if "." not in key or "app" in key}
            for each in metrics[name]
        ]
        assert own == [{"app.tier": "1", "team": "evals"}, {"app.tier": "1"}]
    assert seen.values("calls", "kind") == {"ok": 1}


def test_own_dimensions_are_bounded_and_may_fail(run, seen, caplog):
    """After 500 combinations, values are `other`; a failure is logged once, and the call counts."""
    number = iter(range(10_000))

    def enrich(event):
        now = next(number)
        if now % 100 == 99:
            raise ValueError("enrich")
        return {"user": f"{now}" * 300, **({f"name{now}": 1} if now > 900 else {})}

    stack = telemetry.opentelemetry(
        Stack(ErrorClassifier()), enrich=enrich, spans=False, **seen.providers
    )
    send = stack.around(FakeServer())

    async def call():
        for _ in range(1_000):
            await send(PAYLOAD)

    run(call)
    calls = seen.metrics()["resilient_infe.calls"]
    assert sum(each.value for each in calls) == 1_000
    assert len(calls) <= MOST_DIMENSIONED + 2
    assert OTHER in {each.attributes.get("user") for each in calls}
    assert len([each for each in caplog.records if "enrich" in each.message]) == 1


def test_two_stacks_of_one_provider(run, seen):
    """Each has a name of its own; a name is free again when its stack is gone, and counts go on."""
    first = [telemetry.opentelemetry(Stack(ErrorClassifier()), **seen.providers)]
    with pytest.raises(errors.ConfigurationError, match="name= of its own"):
        telemetry.opentelemetry(first[0], **seen.providers)
    second = Stack(ErrorClassifier())
    with pytest.raises(errors.ConfigurationError, match="name= of its own"):
        telemetry.opentelemetry(second, **seen.providers)
    assert second.listeners == ()
    telemetry.opentelemetry(second, name="second", **seen.providers)
    run(lambda: first[0].around(FakeServer())(PAYLOAD))
    run(lambda: second.around(FakeServer())(PAYLOAD))
    assert seen.values("calls", "stack") == {None: 1, "second": 1}
    assert seen.values("in_flight", "stack") == {None: 0, "second": 0}
    first.clear()
    gc.collect()
    assert seen.values("in_flight", "stack") == {"second": 0}
    third = telemetry.opentelemetry(Stack(ErrorClassifier()), **seen.providers)
    run(lambda: third.around(FakeServer())(PAYLOAD))
    assert seen.values("calls", "stack") == {None: 2, "second": 1}


def test_two_readers_see_the_same(run, seen):
    """Each export reads the policies anew."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([InMemoryMetricReader(), reader])
    stack = telemetry.opentelemetry(
        presets.batch(concurrency=3, log=False), spans=False, meter_provider=meters
    )
    run(lambda: stack.around(FakeServer())(PAYLOAD))
    for _ in range(2):
        data = reader.get_metrics_data().to_json()
        assert '"resilient_infe.slots.limit"' in data
    stack.configure(concurrency=5)
    assert re.search(r'slots\.limit.*?"value": 5', reader.get_metrics_data().to_json(), re.DOTALL)
    meters.shutdown()


@pytest.mark.parametrize("url", ["api.infe.io", "https://", "https://x:port/", "ftp://x", "", 7])
def test_a_malformed_url_is_refused(seen, url):
    """Nothing is attached then."""
    stack = Stack(ErrorClassifier())
    with pytest.raises(errors.ConfigurationError, match="base_url must be a URL"):
        telemetry.opentelemetry(stack, base_url=url, **seen.providers)
    assert stack.listeners == ()


def test_the_class_of_an_error():
    """A status, else the class that was raised, else the kind; never a server's text."""
    labels = Labels(1)
    assert error_type(Kind.RATE_LIMITED, 429, "a text", labels) == "429"
    assert error_type(Kind.OVERLOADED, 200, "a text", labels) == "overloaded"
    assert error_type(Kind.CANCELLED, 429, "CancelledError", labels) == "cancelled"
    assert error_type(Kind.UNKNOWN, None, "ValueError", labels) == "ValueError"
    assert error_type(Kind.UNKNOWN, None, "KeyError", labels) == OTHER
    assert error_type(Kind.INVALID, None, None, labels) == "invalid"


def test_nothing_is_loaded_that_is_not_used():
    """`import resilient_infe.telemetry` loads no opentelemetry."""
    code = (
        "import resilient_infe, resilient_infe.telemetry, sys;"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'prometheus'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_without_an_sdk_a_call_goes_on(run):
    """With the API alone, and before a provider is set, nothing is kept and nothing fails."""
    stack = telemetry.opentelemetry(Stack(Retry(), ErrorClassifier()), name="without an SDK")
    assert run(lambda: stack.around(FakeServer(script=[502]))(PAYLOAD)) == "ok"
