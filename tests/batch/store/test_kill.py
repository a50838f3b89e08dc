"""``kill -9`` at random instants: nothing lost, nothing twice. ``KILLS=200`` for more of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.network

ROWS = 5_000
KILLS = int(os.environ.get("KILLS", "8"))
IN_FLIGHT = 64


@pytest.fixture
def server():
    """A stand-in in another process, and its URL; it ends by itself if nobody ends it."""
    life = str(60 + 5 * KILLS)
    command = [sys.executable, "-m", "resilient_infe", "serve", "--for", life, "--latency", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()


def answers(path):
    """The ids in an output, each with the text of its answer."""
    rows = map(json.loads, path.read_text().splitlines())
    return [(row["custom_id"], row["response"]["body"]["id"]) for row in rows]


def test_killed_at_random_instants(server, tmp_path):
    """After so many kills the output is complete, and only what was in flight was sent twice."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"prompt": "number {n}"}}\n' for n in range(ROWS)))
    command = [sys.executable, "-m", "resilient_infe", "run", str(source), "-o", str(out),
               "--base-url", server, "--model", "infe-pulse", "--quiet",
               "--concurrency", str(IN_FLIGHT)]  # fmt: skip
    dice = random.Random(5)
    killed = 0
    for _ in range(KILLS):
        rate = ["--requests-per-minute", str(60 * ROWS // max(5, KILLS // 4))]
        with subprocess.Popen([*command, *rate], stderr=subprocess.DEVNULL) as process:
            time.sleep(dice.uniform(0.5, 1.3))  # the start takes half a second
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
    done = subprocess.run(
        [*command, "--requests-per-minute", "none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = answers(out)
    assert Counter(row for row, _ in found) == Counter(f"line-{n}" for n in range(1, ROWS + 1))
    assert len({answer for _, answer in found}) == ROWS
    assert killed >= KILLS / 4
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert sorted(answers(out)) == sorted(found)  # the first answer stands
    with urlopen(server.removesuffix("/v1") + "/books") as books:
        assert json.load(books)["sends"] <= ROWS + killed * 2 * IN_FLIGHT
