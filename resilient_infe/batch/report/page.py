"""The page itself: one HTML file, without scripts, for a screen of any width, light or dark."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ..monitor import counted
from ..progress import NO_LIMIT, have_result, short, span
from ..steered import in_words
from .chart import Series, chart, number_text, strip
from .history import FailureGroup, History

PACKAGE = "resilient_infe.batch.report"

WHY = {
    "finished": "to the end of the input",
    "stopped": "stopped",
    "BatchPaused": "paused",
    "killed": "killed",
    "running": "under way",
}


def page(history: History) -> str:
    """Return the page of a history."""
    template = Template(files(PACKAGE).joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(history.name),
        lead=_lead(history),
        tiles="".join(_tiles(history)),
        charts="".join(_charts(history)),
        failures=_failures(history.failures),
        runs=_runs(history),
        events=_events(history),
        steering=_steering(history),
    )


def _lead(history: History) -> str:
    rows = history.recorded.about.get("rows")
    about = history.recorded.about.get("input")
    source = f" from <code>{escape(str(about))}</code>" if about else ""
    state = " A run is under way." if history.running else ""
    return f"{have_result(history.recorded.done, rows or None, source)}.{state}"


def _tiles(history: History) -> Iterable[str]:
    prompt, completion = history.tokens
    ended = sum(each.ok + each.failed for each in history.buckets)
    yield _tile("rows with a result", f"{history.recorded.done:,}", "ok")
    yield _tile("failed", f"{history.recorded.failed:,}", "bad" if history.recorded.failed else "")
    yield _tile("time under way", span(history.seconds))
    if history.seconds:
        yield _tile("rows a minute", number_text(ended / history.seconds * 60.0))
    yield _tile("attempts", f"{history.attempts:,}")
    if history.unwatched:
        yield _tile("retries and 429s", "not recorded")
    else:
        yield _tile("retries", f"{history.retries:,}")
        share = f" ({history.rejected / history.attempts:.2%})" if history.attempts else ""
        yield _tile("429s", f"{history.rejected:,}{share}")
    yield _tile("tokens in / out", f"{short(prompt)} / {short(completion)}")
    if history.cached_tokens:
        yield _tile("tokens in, from the cache", short(history.cached_tokens))
    for share_of, name in ((0.5, "median"), (0.95, "95 of 100"), (0.99, "99 of 100")):
        found = history.latency.percentile(share_of)
        if found is not None:
            yield _tile(f"an attempt, {name}", f"{found:.2f} s")


def _tile(name: str, value: str, style: str = "") -> str:
    return f'<div class="tile {style}"><dt>{name}</dt><dd>{value}</dd></div>'


def _charts(history: History) -> Iterable[str]:
    buckets, width = history.buckets, history.width
    scale = 60.0 / width

    def per_minute(name: str) -> list[float]:
        return [getattr(each, name) * scale for each in buckets]

    yield chart(
        "Calls against the limit",
        "Rows that came to their end, and the limit that was kept or learned, summed over models.",
        "/min",
        width,
        bars=[
            Series("with a result", "c-ok", per_minute("ok")),
            Series("failed", "c-bad", per_minute("failed")),
        ],
        lines=[Series("limit", "l-limit", _carried([each.limit for each in buckets]))],
    )
    yield _limits(history)
    yield chart(
        "Retries and 429s",
        "Attempts that were sent again, and those that the server rejected for its limit.",
        "/min",
        width,
        bars=[Series("retries", "c-warn", per_minute("retries"))],
        lines=[Series("429s", "l-bad", per_minute("rejected"))],
    )
    yield _latency_chart(history)
    yield chart(
        "Tokens",
        "As the server charged them.",
        "/min",
        width,
        bars=[
            Series("input", "c-ok", per_minute("prompt_tokens")),
            Series("output", "c-alt", per_minute("completion_tokens")),
        ],
    )
    yield strip(
        "Circuit",
        "While it is open nothing is sent; half-open lets some probes through.",
        [_state(each.circuit, each.waits) for each in buckets],
        history.seconds,
    )


def _limits(history: History) -> str:
    """Return a table of the limit of each model, if they differ; else an empty text."""
    limits = history.limits
    differ = any(each != other for each in limits.values() for other in limits.values())
    if history.account is None and not differ:
        return ""
    named = {name or "no model": each for name, each in limits.items()}
    if history.account is not None:
        named["all of the account"] = history.account
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_limit(each['requests'])}</td>"
        f"<td>{_limit(each['tokens'])}</td></tr>"
        for name, each in named.items()
    )
    head = "<tr><th>limit of</th><th>requests a minute</th><th>tokens a minute</th></tr>"
    return f"<div class=wide><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


def _limit(value: float | None) -> str:
    return "-" if value is None or value >= NO_LIMIT else f"{value:,.6g}"


def _latency_chart(history: History) -> str:
    lines = [
        Series(name, colour, [each.latency.percentile(share) for each in history.buckets])
        for name, colour, share in (
            ("median", "l-ok", 0.5),
            ("95 of 100", "l-warn", 0.95),
            ("99 of 100", "l-bad", 0.99),
        )
    ]
    note = "Percentiles of what ended in each stretch of time."
    return chart("Latency of an attempt", note, "s", history.width, lines=lines)


def _carried(values: list[float | None]) -> list[float | None]:
    """Return the values with gaps filled by what stood before them."""
    kept: float | None = None
    found = []
    for value in values:
        kept = value if value is not None else kept
        found.append(kept)
    return found


def _state(circuit: str | None, waits: str | None) -> tuple[str, str]:
    if circuit is not None:
        return ("c-bad", "open") if circuit == "open" else ("c-warn", "half-open")
    return ("c-alt", "waited for the server's limit") if waits else ("c-ok", "closed")


def _failures(failures: list[FailureGroup]) -> str:
    if not failures:
        return "<p>No row failed.</p>"
    return "".join(_failure(each) for each in failures)


def _failure(failed: FailureGroup) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(each['id']))}</td><td>{each['status'] or '-'}</td>"
        f"<td>{escape(each['message'])}</td>"
        f"<td>{escape(', '.join(each['requests'])) or '-'}</td></tr>"
        for each in failed.examples
    )
    name = escape(" / ".join(part for part in (failed.kind, failed.code) if part))
    advice = f"<p>{escape(failed.advice)}</p>" if failed.advice else ""
    return (
        f"<section><h3>{name}: {counted(failed.rows, 'row')}</h3>{advice}"
        f"<div class=wide><table><thead><tr>"
        f"<th>row</th><th>status</th><th>message</th><th>x-request-id, for the support</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div></section>"
    )


def _runs(history: History) -> str:
    rows = "".join(
        f"<tr><td>{_date(run.began)}</td><td>{span(run.ended - run.began)}</td>"
        f"<td>{escape(WHY.get(run.end_reason, run.end_reason))}</td></tr>"
        for run in history.runs
    )
    head = "<tr><th>began (UTC)</th><th>took</th><th>ended</th></tr>"
    return f"<div class=wide><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


def _steering(history: History) -> str:
    """Return a section on what was changed while a run went on; empty if nothing was."""
    rows = "".join(
        f"<tr><td>{_date(told['when'])}</td><td>{span(at)}</td><td>{escape(each)}</td></tr>"
        for at, told in history.steering
        for each in in_words(told)
    )
    head = "<tr><th>when (UTC)</th><th>after</th><th>what</th></tr>"
    table = f"<div class=wide><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    return f"<h2>Steered</h2>{table}" if rows else ""


def _events(history: History) -> str:
    if not history.events:
        return "<p>Nothing out of the ordinary.</p>"
    rows = "".join(
        f"<tr><td>{span(at)}</td><td>{escape(str(told['name']))}</td><td>{_words(told)}</td></tr>"
        for at, told in history.events
    )
    head = "<tr><th>after</th><th>what</th><th>details</th></tr>"
    return f"<div class=wide><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


def _words(told: dict[str, Any]) -> str:
    left = {
        name: value for name, value in told.items() if name not in ("when", "name", "request_id")
    }
    return escape(", ".join(f"{name} {_short(value)}" for name, value in left.items()))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
