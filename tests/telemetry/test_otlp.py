"""OpenTelemetry over the wire: a receiver gets the spans and the metrics of a real run."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from served import served

from resilient_infe import InfeTransport, presets, telemetry, wrap
from resilient_infe.testing import Faults

PAYLOAD = {"model": "infe-pulse", "messages": [{"role": "user", "content": "a secret"}]}

KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


class Collector:
    """An OTLP receiver on 127.0.0.1 that keeps what it is sent."""

    def __init__(self):
        """Begin to receive, in a thread."""
        kept = self.kept = {path: [] for path in KINDS}

        class Receive(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept[self.path].append(KINDS[self.path].FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Receive)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.tracers, spans = TracerProvider(), OTLPSpanExporter(f"{self.url}/v1/traces")
        self.tracers.add_span_processor(BatchSpanProcessor(spans))
        metrics = OTLPMetricExporter(f"{self.url}/v1/metrics")
        self.meters = MeterProvider([PeriodicExportingMetricReader(metrics, 3_600_000)])

    def close(self):
        """Send what is left, and stop; once."""
        if not self._thread.is_alive():
            return
        self.tracers.shutdown()
        self.meters.shutdown()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self):
        """Return the spans that came."""
        resources = [r for each in self.kept["/v1/traces"] for r in each.resource_spans]
        return [span for r in resources for scope in r.scope_spans for span in scope.spans]

    def metrics(self):
        """Return the metrics that came, by name."""
        resources = [r for each in self.kept["/v1/metrics"] for r in each.resource_metrics]
        scopes = [scope for r in resources for scope in r.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}


@pytest.fixture
def collector(monkeypatch):
    """Return a receiver; what is received is decoded by `opentelemetry-proto`."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    made = Collector()
    yield made
    made.close()


@pytest.mark.network
def test_a_receiver_gets_spans_and_metrics(collector):
    """What a run over HTTP sent, a stream and a retry included; and no prompt and no key."""
    stack = telemetry.opentelemetry(
        presets.batch(requests_per_minute=6_000, log=False),
        tracer_provider=collector.tracers,
        meter_provider=collector.meters,
    )

    async def run(url):
        async with InfeTransport("sk-secret", base_url=url) as transport:
            for _ in range(3):
                await stack.around(transport)(PAYLOAD)
            stream = await stack.around(transport.stream)(PAYLOAD)
            async for _ in stream:
                pass

    with served(faults=Faults(script=[502])) as (url, model):
        asyncio.run(run(url))
    collector.close()
    spans = collector.spans()
    calls = [each for each in spans if each.name == "chat infe-pulse"]
    [attempt] = [each for each in spans if each.name == "attempt"]
    assert len(calls) == 4
    assert attempt.parent_span_id in {each.span_id for each in calls}
    assert all(each.end_time_unix_nano >= each.start_time_unix_nano for each in spans)
    metrics = collector.metrics()
    [duration] = metrics["gen_ai.client.inference.duration"].histogram.data_points
    assert duration.count == 4
    sums = metrics["gen_ai.client.inference.usage.input_tokens"].sum
    assert sums.is_monotonic
    assert sums.data_points[0].as_double > 0
    assert metrics["resilient_infe.slots.limit"].gauge.data_points
    assert "secret" not in f"{collector.kept}"
    assert model.books.sends == 5


@pytest.mark.network
@pytest.mark.parametrize("blocking", [False, True])
def test_the_span_is_current_in_the_client(collector, blocking):
    """A wrapped client's own instrumentation sees it, in a thread without a loop too."""
    stack = telemetry.opentelemetry(
        presets.batch(log=False), tracer_provider=collector.tracers, metrics=False
    )
    tracer = collector.tracers.get_tracer("client")

    class Instrumented(httpx.HTTPTransport):
        def handle_request(self, request):
            with tracer.start_as_current_span("POST"):
                return super().handle_request(request)

    class InstrumentedAsync(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            with tracer.start_as_current_span("POST"):
                return await super().handle_async_request(request)

    async def run(url):
        async with wrap(httpx.AsyncClient(transport=InstrumentedAsync()), stack) as client:
            with tracer.start_as_current_span("mine"):
                assert (await client.post(f"{url}/chat/completions", json=PAYLOAD)).is_success

    def run_blocking(url):
        client = wrap(httpx.Client(transport=Instrumented()), stack)
        with client, tracer.start_as_current_span("mine"):
            assert client.post(f"{url}/chat/completions", json=PAYLOAD).is_success

    with served(faults=Faults(script=[502])) as (url, _):
        if blocking:
            run_blocking(url)
        else:
            asyncio.run(run(url))
    collector.close()
    by_id = {each.span_id: each for each in collector.spans()}
    ways = []
    for each in by_id.values():
        way = [each.name]
        while each := by_id.get(each.parent_span_id):
            way.append(each.name)
        ways.append(way)
    call = ["chat infe-pulse", "mine"]
    assert sorted(ways) == sorted(
        [["POST", *call], ["POST", "attempt", *call], ["attempt", *call], call, ["mine"]]
    )
