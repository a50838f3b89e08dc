"""docs/observability.md: its web service runs, and its tables are the code's."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from served import served

import resilient_infe
from resilient_infe import errors
from resilient_infe.telemetry.conventions import V0_1_0, V1_36
from resilient_infe.telemetry.metrics import COUNTERS, DURATION, GAUGES
from resilient_infe.testing import Faults

PAGE = Path(resilient_infe.__file__).parent.parent / "docs" / "observability.md"
TEXT = PAGE.read_text()

RAISED = [
    each
    for each in vars(errors).values()
    if isinstance(each, type)
    and issubclass(each, errors.ResilienceError)
    and not issubclass(each, errors.BatchError | errors.ConfigurationError | errors.WrongLoopError)
    and each is not errors.ResilienceError
]
"""What a call may raise."""


def service():
    """Run the example, and return its names."""
    [block] = [each for each in re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
               if "FastAPI" in each]  # fmt: skip
    space = {"__name__": "service"}
    exec(compile(block, "service", "exec"), space)
    return space


def rows(head):
    """Return the rows of the table whose first column has this head."""
    table = TEXT.split(f"\n| {head} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]


@pytest.mark.parametrize("kind", RAISED, ids=lambda each: each.__name__)
def test_the_status_of_each_error(kind):
    """The example answers each error with the status of its row, or of its nearest base's."""
    statuses = {
        name: int(status)
        for names, status, _ in rows("Error")
        for name in re.findall(r"`(\w+)`", names)
    }
    expected = next(statuses[each.__name__] for each in kind.__mro__ if each.__name__ in statuses)
    error = kind("message")
    chosen = next(status for kinds, status in service()["STATUSES"] if isinstance(error, kinds))
    assert chosen == expected


@pytest.mark.network
def test_the_service_answers(monkeypatch):
    """It answers through its lifespan; an error has its status, and Retry-After if it knows it."""
    monkeypatch.setenv("INFE_API_KEY", "sk-test")

    async def ask(app):
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            return [
                await client.post("/ask", params={"question": "hello"}),
                await client.post("/ask", params={"question": "hello"}),
                await client.get("/health"),
            ]

    with served(faults=Faults(script=[200, 401])) as (url, _):
        monkeypatch.setenv("INFE_BASE_URL", url)
        space = service()
        good, bad, health = asyncio.run(ask(space["app"]))
    assert (good.status_code, bad.status_code, health.status_code) == (200, 502, 200)
    assert bad.json() == {"error": "AuthenticationError"}
    assert health.json()["circuits"] == {"infe-pulse": "closed"}
    assert space["stack"].statistics().draining

    refused = asyncio.run(space["failed"](None, errors.QueueFull("full", retry_after=0.2)))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")


def test_every_metric_is_on_the_page():
    """The table has each metric with its unit and its labels, and no other."""
    table = TEXT.split("```text\nmetric ", 1)[1].split("```", 1)[0]
    named = [re.split(r" {2,}", line)[0] for line in table.splitlines()[1:]]
    known = [*COUNTERS, DURATION, *GAUGES]
    assert named == [each.name for each in known]
    for line, metric in zip(table.splitlines()[1:], known, strict=True):
        assert metric.unit.strip("{}") in line.split()
        assert ", ".join(metric.labels) in line


def test_every_name_of_the_conventions_is_on_the_page():
    """Attributes and metrics of both versions; the parts of a usage by the ends of their names."""
    for conventions in (V1_36, V0_1_0):
        for field in conventions.__dataclass_fields__:
            value = getattr(conventions, field)
            for name in value.values() if isinstance(value, dict) else [value]:
                end = re.sub(r"^gen_ai\.(client\.inference\.)?usage\.", "", name or "")
                assert end in TEXT, name
