"""Prometheus: what a registry shows of a stack."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fakes import FakeServer, all_at_once
from prometheus_client import CollectorRegistry, generate_latest

from resilient_infe import ErrorClassifier, Retry, Stack, errors, presets, telemetry
from resilient_infe.telemetry.measured import BUCKETS, MOST_PARTITIONS, OTHER
from resilient_infe.testing import Faults, InfeModel, InProcessInfe

DOCS = Path(__file__).parents[2] / "docs" / "observability"

PAYLOAD = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}


def value(registry, name, **labels):
    """Return the value of one series of the registry."""
    return registry.get_sample_value(f"resilient_infe_{name}", labels)


def sent(run, stack, registry, rows=4):
    """Attach the stack's metrics after it was put around a server, and send rows."""
    model = InfeModel(faults=Faults(script=[502, 401]), latency=0.5)
    send = stack.around(InProcessInfe(model))
    assert telemetry.prometheus(stack, registry) is stack
    run(lambda: all_at_once(send, [PAYLOAD] * rows))
    return model


@pytest.mark.parametrize("preset", [False, True])
def test_counts_are_those_of_the_server(run, preset):
    """Calls, attempts, retries, tokens and durations, without and with a layer that makes ids."""
    bare = Stack(Retry(uniform=lambda: 0.5), ErrorClassifier())
    registry, stack = CollectorRegistry(), presets.batch(log=False) if preset else bare
    model = sent(run, stack, registry)
    one = {"partition": "infe-pulse"}
    assert value(registry, "calls_total", kind="ok", **one) == 3
    assert value(registry, "calls_total", kind="auth", **one) == 1
    assert value(registry, "attempts_total", kind="transient", **one) == 1
    assert value(registry, "retries_total", kind="transient", **one) == 1
    assert value(registry, "call_duration_seconds_count", **one) == 4
    assert value(registry, "call_duration_seconds_bucket", le="0.25", **one) == 0
    tokens = [value(registry, "tokens_total", type=each, **one) for each in ("input", "output")]
    assert sum(tokens) == model.books.tokens
    assert value(registry, "wait_seconds_total", reason="backoff", **one) > 0
    assert value(registry, "in_flight") == 0


def test_policies_are_read_at_collection(run):
    """Slots, rate limits and the circuit show what the statistics say."""
    registry = CollectorRegistry()
    stack = presets.batch(concurrency=7, requests_per_minute=600, log=False)
    sent(run, stack, registry)
    one = {"partition": "infe-pulse"}
    assert value(registry, "slots_limit", **one) == 7
    assert value(registry, "rate_limit", dimension="requests", period="60", **one) == 600
    assert value(registry, "rate_used", dimension="requests", period="60", **one) == 5
    assert value(registry, "circuits", state="closed", **one) == 1


def test_the_number_of_series_is_bounded(run):
    """Of 10,000 partitions with hostile names, the first have series, and the rest share one."""
    registry = CollectorRegistry()
    stack = telemetry.prometheus(Stack(ErrorClassifier()), registry)

    async def answer(payload):
        return payload

    send = stack.around(answer)
    names = ['a"b\\c\n# TYPE x', "\ud800", "x" * 10_000, "", "\0", OTHER]
    names += [f"model-{number}" for number in range(10_000)]

    async def call():
        for name in names:
            await send(1, partition=name)

    run(call)
    text = generate_latest(registry).decode()
    lines = [line for line in text.splitlines() if line.startswith("resilient_infe_calls_total")]
    assert len(lines) <= MOST_PARTITIONS + 1
    assert sum(float(line.rsplit(" ", 1)[1]) for line in lines) == len(names)
    assert max(map(len, text.splitlines())) < 400


def test_own_labels(run):
    """`enrich` adds labels to what is counted of calls; what would not be exposed is left out."""
    registry = CollectorRegistry()

    def enrich(event):
        own = {"team": event.tags.get("team"), "tier": 1, "empty": "", "kind": "x", "le": "x"}
        return {**own, "a.b": 1, "__name__": "x", 'a"b': 1, "partition": "x"}

    stack = telemetry.prometheus(Stack(ErrorClassifier()), registry, enrich=enrich)
    send = stack.around(FakeServer())

    async def call():
        await send(PAYLOAD, tags={"team": 'a"b\n'})
        await send(PAYLOAD)

    run(call)
    one = {"partition": "infe-pulse", "tier": "1"}
    assert value(registry, "calls_total", kind="ok", team='a"b\n', **one) == 1
    assert value(registry, "calls_total", kind="ok", **one) == 1
    assert value(registry, "call_duration_seconds_count", **one) == 1
    text = generate_latest(registry).decode()
    assert len(text.splitlines()) == len(set(text.splitlines()))


def test_a_registry_takes_one_stack():
    """A second stack is refused with what to do, and is not counted."""
    registry = CollectorRegistry()
    telemetry.prometheus(Stack(ErrorClassifier()), registry)
    second = Stack(ErrorClassifier())
    with pytest.raises(errors.ConfigurationError, match="CollectorRegistry of its own"):
        telemetry.prometheus(second, registry)
    assert second.listeners == ()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is missing")
def test_promtool_accepts_the_metrics(run):
    """`promtool check metrics` finds nothing wrong with the names, types and texts."""
    registry = CollectorRegistry()
    sent(run, presets.batch(requests_per_minute=600, log=False), registry)
    text = generate_latest(registry)
    command = ["promtool", "check", "metrics"]
    checked = subprocess.run(command, input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_rules_and_dashboard_name_what_is_exposed():
    """Each metric in the rules and the panels is one of the registry, or recorded by a rule."""
    registry = CollectorRegistry()
    telemetry.prometheus(Stack(ErrorClassifier()), registry)
    kinds = {each.name: each.type for each in registry.collect()}
    ends = {"counter": ("_total",), "histogram": ("_bucket",), "gauge": ("",)}
    known = {name + end for name, kind in kinds.items() for end in ends[kind]}
    rules = (DOCS / "rules.yml").read_text()
    panels = json.loads((DOCS / "dashboard.json").read_text())["panels"]
    for text in [rules, *(each["targets"][0]["expr"] for each in panels)]:
        used = set(re.findall(r"(?<![\w:])resilient_infe_\w+(?=[\[{ ]|$)", text))
        assert used - {"resilient_infe_recorded", "resilient_infe_alerts"} <= known


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is missing")
def test_promtool_accepts_the_rules():
    """`promtool check rules` finds nothing wrong."""
    command = ["promtool", "check", "rules", str(DOCS / "rules.yml")]
    checked = subprocess.run(command, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_bounds_of_a_histogram_rise():
    """Each bound is larger than the one before."""
    assert list(BUCKETS) == sorted(set(BUCKETS))
