"""The report: what a journal tells, drawn; looked at in a real browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from html import escape
from html.parser import HTMLParser

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import presets
from resilient_infe.batch import Journal, Monitor, run_batch
from resilient_infe.batch.report import History, history_of, page
from resilient_infe.batch.report.chart import amount, number_text, round_up, time_text
from resilient_infe.batch.report.histogram import Histogram
from resilient_infe.batch.report.history import FailureGroup
from resilient_infe.testing import Faults, InfeModel, InProcessInfe, run_virtually

HOSTILE = '<script>alert("x")</script>\u202e'


def asks(number):
    """So many rows, each a request; the first has a hostile id."""
    body = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}
    return [body | {"custom_id": HOSTILE if n == 0 else f"r{n}"} for n in range(number)]


@pytest.fixture(scope="module")
def journal(module_path):
    """A journal of two runs, with retries, 429s, an outage and some failures for good."""
    path = module_path / "out.jsonl.journal"
    faults = Faults(rates={500: 0.03, 400: 0.03}, outages=[(10, 20)], script=[400])

    async def main(rows):
        model = InfeModel(
            faults=faults, requests_per_minute=1_200, retry_after="exact", latency=0.2
        )
        began = 1.7e9 + (0 if rows == 400 else 36_000) - anyio.current_time()

        def wall():
            return began + anyio.current_time()

        kept = Journal(path, {"base_url": "https://api.infe.io/v1"}, threaded=False, wall=wall)
        kept.about = {"input": "requests.jsonl", "rows": 1_000}
        stack = presets.batch(requests_per_minute=1_500, listeners=[Monitor(wall)])
        results = run_batch(asks(rows), stack.around(InProcessInfe(model)), journal=kept)
        async with results:
            async for result in results:
                if result.index == 500 and rows == 1_000:
                    break
        kept.close()

    run_virtually(lambda: main(400))
    run_virtually(lambda: main(1_000))
    return path


def test_what_was_not_recorded_is_not_called_0(tmp_path):
    """Without a stack nobody counted retries and 429s; with one, a run counts by itself."""
    path = tmp_path / "j"

    async def main(stack):
        kept, send = Journal(path, threaded=False), InProcessInfe(InfeModel())
        send = send if stack is None else stack.around(send)
        async for _ in run_batch(asks(3), send, journal=kept, replay=False, retry_failed=True):
            pass
        kept.close()

    run_virtually(lambda: main(presets.batch(requests_per_minute=600)))
    assert "<dt>retries</dt><dd>0</dd>" in page(history_of(path))
    path.unlink()
    run_virtually(lambda: main(None))
    shown = page(history_of(path))
    assert "<dt>retries and 429s</dt><dd>not recorded</dd>" in shown
    assert "<dt>429s</dt>" not in shown


def test_a_history_adds_up(journal):
    """What is in the buckets is what is in the journal, and no row counts twice."""
    history = history_of(journal)
    recorded = history.recorded
    assert sum(bucket.ok for bucket in history.buckets) == recorded.done
    assert sum(group.rows for group in history.failures) == recorded.failed
    assert [run.end_reason for run in history.runs] == ["finished", "stopped"]
    assert history.rejected == sum(bucket.rejected for bucket in history.buckets)
    assert history.attempts >= recorded.done + recorded.failed
    assert 30 < len(history.buckets) <= 120
    assert history.seconds < 120  # the hours between the runs took no room
    assert history.latency.percentile(0.5) == pytest.approx(0.2, rel=0.05)
    kinds = {(group.kind, group.code): group for group in history.failures}
    group = kinds["invalid", "invalid_request_error"]
    assert len(group.examples) == 5
    assert all(example["requests"] for example in group.examples)
    assert {told["name"] for _, told in history.events} >= {"circuit.opened", "circuit.closed"}


def test_the_page_stands_alone(journal):
    """It is well-formed, needs no network and no script, and quotes nothing as markup."""
    text = page(history_of(journal))
    assert not re.search(r"(src|href|action)\s*=|url\(|@import", text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    Balanced().check(text)
    for words in ("Calls against the limit", "Retries and 429s", "Latency of an attempt", "Tokens",
                  "Circuit", "half-open", "x-request-id", "to the end of the input",
                  "requests.jsonl"):  # fmt: skip
        assert words in text
    assert "$" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_the_head_and_the_words(journal):
    """The page says of what it is, what the limit was, and its numbers as a person would."""
    text = page(history_of(journal))
    for fact in (
        "<dt>date</dt><dd>2023-11-14 22:13:20 to ", "<dt>models</dt><dd>infe-pulse</dd>",
        "<dt>base URL</dt><dd><code>https://api.infe.io/v1</code></dd>",
        "<dt>limit</dt><dd>1,500 requests/minute</dd>", "<code>requests.jsonl</code>",
        "<dt>an attempt, p95</dt>",
    ):  # fmt: skip
        assert fact in text
    assert "of 100" not in text
    assert "e+" not in re.sub(r"<(style|svg).*?</\1>", "", text, flags=re.DOTALL)
    assert re.search(r"<dt>pace</dt><dd>[\d,]+/min</dd>", text)
    assert re.search(r"<dt>time under way</dt><dd>(\d+ min )?\d+ s</dd>", text)


def written(path, kept=None, **about):
    """A journal of one run of a plain function, of which half of the rows fail."""
    kept = kept or Journal(path, {"base_url": "https://h/v1"}, threaded=False, library="1.2.3")
    kept.about = about

    async def send(row):
        await anyio.sleep(0.5)
        if row["custom_id"] != HOSTILE and int(row["custom_id"][1:]) % 2:
            raise ValueError("no\x1b[31m \u202e such\x00 row")
        return {"choices": []}

    async def main():
        async for _ in run_batch(asks(10), send, journal=kept, keep_going=True):
            pass
        kept.close()

    run_virtually(main)
    return page(history_of(path))


def test_nothing_that_was_not_recorded_is_a_number(tmp_path):
    """A plain function has no limit, no circuit and no retries; others no tokens."""
    text = written(tmp_path / "j")
    Balanced().check(text)
    assert "<dt>limit</dt><dd>not recorded</dd>" in text
    assert "<dt>retries and 429s</dt><dd>not recorded</dd>" in text
    assert "<dt>tokens</dt><dd>not recorded</dd>" in text
    assert "<dt>attempts</dt><dd>10</dd>" in text
    for title in ("Retries and 429s</h2>", "Tokens</h2>", "Circuit</h2>", "<dt>cost</dt>"):
        assert title not in text
    assert "Nothing out of the ordinary" not in text


def test_a_run_that_was_killed_at_once(tmp_path):
    """Without a sample nobody knows of retries, and the attempts of its rows are not 0."""
    path = tmp_path / "j"
    written(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM samples")
        db.execute("UPDATE runs SET ended = NULL, why = NULL, outcome = NULL")
    text = page(history_of(path))
    assert "<dt>attempts</dt><dd>10</dd>" in text
    assert "<dt>retries and 429s</dt><dd>not recorded</dd>" in text
    assert "killed" in text


def test_texts_from_outside_are_shown_as_they_are(tmp_path):
    """Control characters are told as such, the file of the failures is named, and the version."""
    text = written(tmp_path / "j", errors="out.errors\x1b.jsonl", input="<in>\u202e.jsonl")
    assert "All of them are in <code>out.errors\\x1b.jsonl</code>" in text
    assert "no\\x1b[31m \\u202e such\\x00 row" in text
    assert "&lt;in&gt;\\u202e.jsonl" in text
    assert "<dt>version</dt><dd><code>1.2.3</code></dd>" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)


def test_limits_of_models_that_differ(tmp_path):
    """Each has a line and a row of a table; the limit of the tokens is drawn with them."""
    path = tmp_path / "j"

    async def main():
        kept = Journal(path, threaded=False)
        stack = presets.batch(requests_per_minute={"a": 600, "b": 300}, tokens_per_minute=1e5)
        rows = [{"model": "ab"[n % 2], "messages": [], "custom_id": f"{n}"} for n in range(30)]
        model = InfeModel(models=("a", "b"))
        async for _ in run_batch(rows, stack.around(InProcessInfe(model)), journal=kept):
            pass
        kept.close()

    run_virtually(main)
    text = page(history_of(path))
    Balanced().check(text)
    for words in ("differs by model", ">limit of all models<", ">limit of a<", ">limit of b<",
                  "<td>600</td><td>100,000</td>", "<td>300</td>"):  # fmt: skip
        assert words in text


def test_ways_to_fail_without_end(tmp_path):
    """A server may invent a code for each row: the page stays short, and says so."""
    history = History("j", failures=[FailureGroup("invalid", f"c{n}", 1) for n in range(60)])
    text = page(history)
    assert text.count("<section>") == 50
    assert "And 10 more ways to fail" in text


def test_a_page_of_an_empty_journal(tmp_path):
    """A run that did nothing yet has a page, too."""

    async def main():
        kept = Journal(tmp_path / "j", threaded=False)
        kept.start(pytest.fail)
        kept.stop(why="finished")
        kept.close()

    run_virtually(main)
    text = page(history_of(tmp_path / "j"))
    Balanced().check(text)
    assert "No row failed" in text


def test_while_a_run_is_under_way(tmp_path):
    """A journal that is being written to is drawn as far as it is."""

    async def main():
        kept = Journal(tmp_path / "j", threaded=False)
        send = presets.batch(requests_per_minute=600).around(InProcessInfe(InfeModel()))
        async for result in run_batch(asks(50), send, journal=kept):
            if result.index == 30:
                break
        text = page(history_of(tmp_path / "j"))
        assert "A run is under way" in text
        await anyio.lowlevel.checkpoint()
        kept.close()

    run_virtually(main)


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_percentiles_are_close(times, share):
    """A percentile is within five per cent of a time that so many are not above."""
    histogram = Histogram()
    for each in times:
        histogram.add(each)
    found = histogram.percentile(share)
    exact = sorted(times)[max(0, -(-round(share * len(times) * 1e9) // 10**9) - 1)]
    assert exact / 1.05 <= found <= exact * 1.05


def test_there_is_no_percentile_of_nothing():
    """No times, no percentile."""
    assert Histogram().percentile(0.5) is None


@given(st.just(0.0) | st.floats(0.01, 1e12))
def test_axes_end_at_round_numbers(value):
    """The end of an axis is above all values, not by much, and reads well."""
    top = round_up(value)
    assert top >= value * (1 - 1e-9)
    assert top <= max(1.0, value * 2.5001)
    assert number_text(top).strip("0.,kMG") in ("1", "2", "5", "")


def test_labels():
    """Numbers and times have no more digits than they need."""
    assert [number_text(each) for each in (0, 0.5, 950, 20_000, 2e6)] == ["0", "0.5", "950", "20k",
                                                                          "2M"]  # fmt: skip
    times = [time_text(each) for each in (30, 139, 600, 7_300)]
    assert times == ["30 s", "2 min 19 s", "10 min", "2.0 h"]
    amounts = [amount(each) for each in (17_600.4, 12.54, 0.0801, 3.0, float("inf"))]
    assert amounts == ["17,600", "12.5", "0.0801", "3", "inf"]


class Balanced(HTMLParser):
    """Checks that every element that is opened is closed."""

    VOID = frozenset(("meta", "path", "rect", "br"))

    def check(self, text):
        """Read a whole page."""
        self.open = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Open an element."""
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the element that was opened last."""
        if tag not in self.VOID:
            assert self.open.pop() == tag


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)  # fmt: skip

PROBE = """<iframe style="width:WIDTHpx;height:900px;border:0" srcdoc="PAGE"></iframe>
<script>addEventListener("load", () => {
  const view = document.querySelector("iframe").contentWindow, page = view.document;
  const all = what => [...page.querySelectorAll(what)];
  const style = what => view.getComputedStyle(what);
  const seen = {
    wide: page.documentElement.scrollWidth,
    paper: style(page.body).backgroundColor, ink: style(page.body).color,
    charts: all("svg").map(e => e.getBoundingClientRect().width),
    bars: all("svg rect.c-ok").filter(e => e.getBoundingClientRect().height > 1).length,
    smallest: Math.min(...all("span, td, dt, p").map(e => parseFloat(style(e).fontSize))),
    fetched: view.performance.getEntriesByType("resource").length,
  };
  document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen) + "</pre>";
})</script>"""
"""Shows the page in a frame as wide as a phone or a desk, and reports what the browser made of it:
a browser's own window is never as narrow as a phone."""


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200], ids=["phone", "desk"])
def test_in_a_real_browser(journal, tmp_path, width, dark):
    """On a phone and on a desk, light and dark: nothing is cut off, and all charts are drawn."""
    copy = tmp_path / "report.html"
    shown = escape(page(history_of(journal)))
    copy.write_text(PROBE.replace("WIDTH", str(width)).replace("PAGE", shown))
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1300,1500",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        "--dump-dom", copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    seen = json.loads(re.search(r"<pre id=\"seen\">(.*?)</pre>", done.stdout)[1])
    assert seen["wide"] <= width
    assert seen["fetched"] == 0
    assert len(seen["charts"]) == 5
    assert min(seen["charts"]) > width * 0.5
    assert seen["bars"] > 20
    assert seen["smallest"] >= 12
    light = [sum(map(int, re.findall(r"\d+", seen[name])[:3])) for name in ("paper", "ink")]
    assert (light[0] < light[1]) == dark
