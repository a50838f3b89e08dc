"""The demonstration: what it claims and how its table reads."""

import json

from benchmarks.demo import demonstrate


def test_the_demonstration(capsys):
    """Fewer calls than `make demo`, the same claim: none lost, and hardly a 429."""
    code = demonstrate(calls=150, concurrency=64, requests_per_minute=30_000, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [row["way"] for row in rows] == ["resilient_infe", "asyncio.gather",
                                            "semaphore + 3 retries"]  # fmt: skip
    assert (rows[0]["calls"], rows[0]["answered"], rows[0]["lost"]) == (150, 150, 0)


def test_the_table_reads_well(capsys):
    """The table names the three ways and what was lost by each."""
    demonstrate(calls=20, concurrency=10, requests_per_minute=60_000)
    shown = capsys.readouterr().out
    assert "By the servers' books" in shown
    assert max(map(len, shown.splitlines())) <= 80
    names = ["answered", "lost", "attempts", "429s", "took", "rate, of the limit", "latency"]
    assert all(name in shown for name in names)
