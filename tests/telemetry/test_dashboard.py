"""The dashboard, asked of a real Prometheus that scrapes a real run."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from served import served

from resilient_infe.testing import Faults

DASHBOARD = Path(__file__).parents[2] / "docs" / "observability" / "dashboard.json"

PANELS = json.loads(DASHBOARD.read_text())["panels"]

QUERIES = {
    panel["title"]: target["expr"].replace("$__rate_interval", "5s")
    for panel in PANELS
    for target in panel["targets"]
}
"""What each panel asks, by its title."""

MORE = {
    "429s": 'resilient_infe_attempts_total{kind="rate_limited"}',
    "an open circuit": 'max_over_time(resilient_infe_circuits{state="open"}[1m]) > 0',
}
"""What must have happened in the run."""


def free_port():
    """Return a port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running(*command):
    """Run a program until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        try:
            yield program
        finally:
            program.kill()


def asked(port, query):
    """Return the series of a query; none while Prometheus begins."""
    query = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}") as answer:
            return json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError):
        return []


@pytest.mark.network
@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus (Debian) is not installed")
def test_every_panel_has_data(tmp_path):
    """In a run with 429s, retries and an open circuit each panel's query returns series."""
    assert "or vector" not in DASHBOARD.read_text()
    target, port = free_port(), free_port()
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "500ms"},
                "scrape_configs": [
                    {
                        "job_name": "run",
                        "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
                    }
                ],
            }
        )
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "\n".join(json.dumps({"custom_id": f"{n}", "prompt": "hi"}) for n in range(3_000))
    )
    faults = Faults(script=[429] * 3, outages=[(3.0, 12.0)])
    with (
        served(latency=0.05, retry_after="exact", faults=faults) as (url, _),
        running(
            "prometheus", f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}",
        ),
        running(
            sys.executable, "-m", "resilient_infe", "run", str(rows), "-o", f"{tmp_path}/out.jsonl",
            "--base-url", url, "--quiet", "--model", "infe-pulse", "--rpm", "3300",
            "--metrics-port", f"{target}",
        ),
    ):  # fmt: skip
        wanted = QUERIES | MORE
        for _ in range(90):  # it takes 5 s, and more where others are at work
            time.sleep(0.5)
            wanted = {title: each for title, each in wanted.items() if not asked(port, each)}
            if not wanted:
                break
    assert wanted == {}
