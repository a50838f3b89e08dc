"""The page itself: one HTML file, without scripts, for a screen of any width, light or dark."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ...adapters.http.masking import printable
from ..monitor import counted
from ..progress import NO_LIMIT, have_result, limits_in_words, short, span, took
from ..spending import dollars, total_of
from ..steered import in_words
from .chart import Series, amount, chart, strip
from .history import Bucket, FailureGroup, History

PACKAGE = "resilient_infe.batch.report"

SHARES = ((0.5, "median"), (0.95, "p95"), (0.99, "p99"))
"""The percentiles that are shown."""

MOST_MODELS = 8
"""Models that are named in the head, and whose limits are drawn one by one."""

MOST_GROUPS = 50
"""Ways to fail that are shown; a server may invent codes without end."""

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
        title=text(history.name),
        lead=_lead(history),
        facts="".join(f"<div><dt>{name}</dt><dd>{it}</dd></div>" for name, it in facts(history)),
        tiles="".join(_tiles(history)),
        charts="".join(_charts(history)),
        failures=_failures(history),
        runs=_runs(history),
        events=_events(history),
        steering=_steering(history),
    )


def text(value: object) -> str:
    """Return a text from outside as HTML, its control characters as they are written in code."""
    return escape(printable(str(value)))


def _lead(history: History) -> str:
    about = history.recorded.about
    source = f" from <code>{text(about['input'])}</code>" if about.get("input") else ""
    state = " A run is under way." if history.running else ""
    return f"{have_result(history.recorded.done, about.get('rows') or None, source)}.{state}"


def facts(history: History) -> Iterable[tuple[str, str]]:
    """Yield what a report is of: each fact's name, and the fact as HTML."""
    about, runs = history.recorded.about, history.runs
    if runs:
        last = "" if history.running else f" to {_date(runs[-1].ended)}"
        yield "date", f"{_date(runs[0].began)}{last} UTC"
    models = sorted({*history.recorded.spent, *history.limits} - {""})
    if models:
        more = f" and {len(models) - MOST_MODELS:,} more" if len(models) > MOST_MODELS else ""
        yield "models", ", ".join(map(text, models[:MOST_MODELS])) + more
    told = {"base URL": history.settings.get("base_url"), "output": about.get("output")}
    told |= {"failures": about.get("errors") if history.recorded.failed else None}
    told |= {"version": about.get("version")}
    for name, value in told.items():
        if value:
            yield name, f"<code>{text(value)}</code>"
    yield "limit", _limit_line(history)


def _limit_line(history: History) -> str:
    limits = list(history.limits.values())
    if not limits and history.account is None:
        return "not recorded"
    told = []
    if any(each != limits[0] for each in limits):
        told.append("differs by model, see below")
    elif limits:
        told.append(_limit_of(limits[0]) + (" for each model" if len(limits) > 1 else ""))
    if history.account is not None:
        told.append(f"{_limit_of(history.account)} for the account")
    return "; ".join(told)


def _limit_of(limit: dict[str, float | None]) -> str:
    known = {f"{name}_per_minute": value for name, value in limit.items() if value is not None}
    return limits_in_words(known) if known else "none was met, and none is known"


def _tiles(history: History) -> Iterable[str]:
    recorded, seconds = history.recorded, history.seconds
    ended = sum(each.ok + each.failed for each in history.buckets)
    yield _tile("rows with a result", f"{recorded.done:,}", "ok")
    yield _tile("failed", f"{recorded.failed:,}", "bad" if recorded.failed else "")
    yield _tile("time under way", took(seconds))
    if seconds and ended:
        yield _tile("pace", f"{amount(ended / seconds * 60.0)}/min")
    yield _tile("attempts", f"{history.attempts:,}")
    if history.unwatched:
        yield _tile("retries and 429s", "not recorded")
    else:
        yield _tile("retries", f"{history.retries:,}")
        share = f" ({history.rejected / history.attempts:.2%})" if history.attempts else ""
        yield _tile("429s", f"{history.rejected:,}{share}")
    yield from _spent(history)
    for share_of, name in SHARES:
        found = history.latency.percentile(share_of)
        if found is not None:
            yield _tile(f"an attempt, {name}", f"{found:.2f} s")


def _spent(history: History) -> Iterable[str]:
    """Yield what was spent in all, which rows that were sent again add to."""
    spent = total_of(history.recorded.spent.values())
    if not history.charged and not spent.calls:
        yield _tile("tokens", "not recorded")
        return
    yield _tile("tokens in / out", f"{short(spent.prompt)} / {short(spent.completion)}")
    if spent.cached:
        yield _tile("tokens in, from the cache", short(spent.cached))
    if spent.estimated:
        yield _tile("tokens that were estimated", short(spent.estimated))
    if spent.dollars is not None:
        yield _tile("cost", dollars(spent.dollars))


def _tile(name: str, value: str, style: str = "") -> str:
    return f'<div class="tile {style}"><dt>{name}</dt><dd>{value}</dd></div>'


def _charts(history: History) -> Iterable[str]:
    buckets, width = history.buckets, history.width
    scale = 60.0 / width

    def per_minute(name: str) -> list[float]:
        return [getattr(each, name) * scale for each in buckets]

    yield chart(
        "Calls against the limit",
        f"Rows that came to their end. Limit: {_limit_line(history)}.",
        "/min",
        width,
        bars=[
            Series("with a result", "c-ok", per_minute("ok")),
            Series("failed", "c-bad", per_minute("failed")),
        ],
        lines=list(_limit_lines(history)),
    )
    yield _limits(history)
    if not history.unwatched:
        yield chart(
            "Retries and 429s",
            "Attempts that were sent again, and those that the server rejected for its limit.",
            "/min",
            width,
            bars=[Series("retries", "c-warn", per_minute("retries"))],
            lines=[Series("429s", "l-bad", per_minute("rejected"))],
        )
    if history.latency.total:
        yield _latency_chart(history)
    if history.charged:
        limit = _carried([each.token_limit for each in buckets])
        yield chart(
            "Tokens",
            "As the server charged them.",
            "/min",
            width,
            bars=[
                Series("input", "c-ok", per_minute("prompt_tokens")),
                Series("output", "c-alt", per_minute("completion_tokens")),
            ],
            lines=[Series("limit", "l-limit", limit)] if any(limit) else [],
        )
    if any(each.watched for each in buckets):
        yield strip(
            "Circuit",
            "While it is open nothing is sent; half-open lets some probes through.",
            [_state(each) for each in buckets],
            history.seconds,
        )


def _limit_lines(history: History) -> Iterable[Series]:
    """Yield the limit of all models together and, where they differ, that of each."""
    buckets, models = history.buckets, list(history.limits)
    known = [each["requests"] for each in history.limits.values()]
    several = 1 < len(models) <= MOST_MODELS and len(set(known)) > 1
    whole = _carried([each.limit for each in buckets])
    if any(whole):
        yield Series("limit of all models" if several else "limit", "l-limit", whole)
    for number, model in enumerate(models if several else ()):
        values = _carried([each.limits.get(model) for each in buckets])
        kept = [None if each is None or each >= NO_LIMIT else each for each in values]
        if any(kept):
            name = f"limit of {printable(model) or 'no model'}"
            yield Series(name, f"l-model l-model-{number % 4}", kept)


def _limits(history: History) -> str:
    """Return a table of the limit of each model, if they differ or are not all; else no text."""
    limits = history.limits
    differ = any(each != other for each in limits.values() for other in limits.values())
    if history.account is None and not differ:
        return ""
    named = {name or "no model": each for name, each in limits.items()}
    if history.account is not None:
        named["all of the account"] = history.account
    rows = [(text(name), *map(_limit, (each["requests"], each["tokens"])))
        for name, each in named.items()]  # fmt: skip
    return _table(("limit of", "requests a minute", "tokens a minute"), rows)


def _limit(value: float | None) -> str:
    return "-" if value is None or value >= NO_LIMIT else f"{value:,.6g}"


def _latency_chart(history: History) -> str:
    lines = [
        Series(name, colour, [each.latency.percentile(share) for each in history.buckets])
        for (share, name), colour in zip(SHARES, ("l-ok", "l-warn", "l-bad"), strict=True)
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


def _state(bucket: Bucket) -> tuple[str, str]:
    if bucket.circuit is not None:
        return ("c-bad", "open") if bucket.circuit == "open" else ("c-warn", "half-open")
    if bucket.waits:
        return "c-alt", "waited for the server's limit"
    return ("c-ok", "closed") if bucket.watched else ("c-none", "not recorded")


def _failures(history: History) -> str:
    if not history.failures:
        return "<p>No row failed.</p>"
    name = history.recorded.about.get("errors")
    place = f"<p>All of them are in <code>{text(name)}</code>.</p>" if name else ""
    more = len(history.failures) - MOST_GROUPS
    rest = f"<p>And {counted(more, 'more way', 'more ways')} to fail.</p>" if more > 0 else ""
    return place + "".join(map(_failure, history.failures[:MOST_GROUPS])) + rest


def _failure(failed: FailureGroup) -> str:
    rows = [
        (text(each["id"]), str(each["status"] or "-"), text(each["message"]),
         text(", ".join(each["requests"])) or "-")
        for each in failed.examples
    ]  # fmt: skip
    name = " / ".join(text(part) for part in (failed.kind, failed.code) if part)
    advice = f"<p>{text(failed.advice)}</p>" if failed.advice else ""
    table = _table(("row", "status", "message", "x-request-id, for the support"), rows)
    return f"<section><h3>{name}: {counted(failed.rows, 'row')}</h3>{advice}{table}</section>"


def _runs(history: History) -> str:
    rows = [
        (_date(run.began), took(max(0.0, run.ended - run.began)),
         text(WHY.get(run.end_reason, run.end_reason)))
        for run in history.runs
    ]  # fmt: skip
    return _table(("began (UTC)", "took", "ended"), rows)


def _steering(history: History) -> str:
    """Return a section on what was changed while a run went on; empty if nothing was."""
    rows = [
        (_date(told["when"]), span(at), text(each))
        for at, told in history.steering
        for each in in_words(told)
    ]
    return f"<h2>Steered</h2>{_table(('when (UTC)', 'after', 'what'), rows)}" if rows else ""


def _events(history: History) -> str:
    if not history.events:
        watched = any(each.watched for each in history.buckets)
        return f"<p>{'Nothing out of the ordinary' if watched else 'Not recorded'}.</p>"
    rows = [(span(at), text(told["name"]), _words(told)) for at, told in history.events]
    return _table(("after", "what", "details"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are HTML; on a narrow screen it is scrolled alone."""
    first = "".join(f"<th>{each}</th>" for each in head)
    rest = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{first}</tr></thead><tbody>{rest}</tbody></table>"
    return f"<div class=wide>{table}</div>"


def _words(told: dict[str, Any]) -> str:
    left = {
        name: value for name, value in told.items() if name not in ("when", "name", "request_id")
    }
    return text(", ".join(f"{name} {_short(value)}" for name, value in left.items()))


def _short(value: Any) -> str:
    return amount(value) if isinstance(value, float) else str(value)


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
