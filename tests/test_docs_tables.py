"""The tables and the names of README and docs are those of the code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import logging
import re
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

import resilient_infe
from resilient_infe import (
    Allowance,
    Call,
    Kind,
    RateLimiter,
    Reply,
    Stack,
    Verdict,
    call_options,
    errors,
    events,
    presets,
    run_batch,
)
from resilient_infe.adapters.infe.replies import error_of
from resilient_infe.circuit.layer import ANSWERS, FAILURES
from resilient_infe.circuit.snapshot import CircuitStatistics
from resilient_infe.classify.table import RETRYABLE, classify_reply
from resilient_infe.cli import COMMANDS, _parser
from resilient_infe.fallback.targets import FallbackStatistics
from resilient_infe.hedge.hedging import HedgeStatistics
from resilient_infe.rate.gate import GateClosed
from resilient_infe.rate.settlement import SETTLEMENTS, learn
from resilient_infe.rate.snapshots import AllowanceStatistics, WindowStatistics
from resilient_infe.retry.budget import RetryBudgetStatistics
from resilient_infe.slots.slots import SlotsStatistics
from resilient_infe.stack.describe import StackStatistics
from resilient_infe.stack.order import ORDER
from resilient_infe.telemetry.counters import CountersSnapshot
from resilient_infe.telemetry.log import LEVELS
from resilient_infe.testing import Books, Faults, InfeModel, Record, plugin
from resilient_infe.testing.scenario import Happening
from resilient_infe.testing.workload import Workload

ROOT = Path(resilient_infe.__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


class Table(NamedTuple):
    """A table of a page; `subject` is the name in the line before it, or the page's title."""

    page: str
    subject: str
    head: list[str]
    rows: list[dict[str, str]]


def tables(path):
    """Yield the tables of a page."""
    subject = path.read_text().split("\n", 1)[0].strip("# ")
    for block in path.read_text().split("\n\n"):
        if named := re.search(r"^`(\w+)`:$", block, re.MULTILINE):
            subject = named[1]
        assert block.startswith("|") or "|---|" not in block, "a table needs empty lines around it"
        if block.startswith("|"):
            lines = [[cell.strip() for cell in line[1:-1].split("|")]
                     for line in block.strip().splitlines()]  # fmt: skip
            head = [cell.replace("`", "") for cell in lines[0]]
            rows = [dict(zip(head, line, strict=True)) for line in lines[2:]]
            yield Table(path.name, subject, head, rows)


def names(cell):
    """Return the names in a cell: what each piece of code in it begins with."""
    return re.findall(r"`([A-Za-z_][\w.]*)", cell)


def parameters(function, *others):
    """Return the parameters of a function and their defaults."""
    found = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in found if each.name not in others}


def public(cls):
    """Return the public fields and properties of a dataclass."""
    found = {each.name for each in dataclasses.fields(cls)}
    found |= {name for name, each in vars(cls).items() if isinstance(each, property)}
    return {name for name in found if not name.startswith("_")}


REASON = "the server asked for it (%s)"
EVENTS = {cls.name: cls for cls in vars(events).values() if hasattr(cls, "as_dict")}
EVENTS = {name: cls for name, cls in EVENTS.items() if "." in name}
STATISTICS = {
    "slots": SlotsStatistics,
    "allowances": AllowanceStatistics,
    "circuits": CircuitStatistics,
    "budget": RetryBudgetStatistics,
    "hedges": HedgeStatistics,
    "fallbacks": FallbackStatistics,
}
LAYERS = {layer.__name__ for layer in ORDER}
FIELDS = {"presets.md": StackStatistics, "own-layer.md": Call, "testing.md": Books}
NAMED = {
    "Parameter": parameters(presets.service) | parameters(presets.batch),
    "Option": parameters(call_options),
    "argument": parameters(run_batch, "rows", "send"),
    "InfeModel": parameters(InfeModel, "faults"),
    "Faults": public(Faults),
    "Field of the snapshot": public(CountersSnapshot),
    "Fixture": {"run", "backend", "infe_model", "simulate"} & set(vars(plugin)),
    "Workload": {each.__name__ for each in get_args(Workload)},
    "Happening": {each.__name__ for each in Happening.__subclasses__()},
    "Of a stack": public(StackStatistics),
    "Of the slots": public(SlotsStatistics),
    "Of a rate limit": public(AllowanceStatistics),
    "Of one limit": public(WindowStatistics),
    "Of a circuit": public(CircuitStatistics),
    "Of the retry budget": public(RetryBudgetStatistics),
    "Of the hedges": public(HedgeStatistics),
    "Of a fallback": public(FallbackStatistics),
    "Of a Record": public(Record) | {"seconds_of", "between", "per_second"} & set(vars(Record)),
    "Event": EVENTS,
    "Kind": {kind.name for kind in Kind},
    "layer": LAYERS,
}
"""What stands in the first column of each table, by the head of that column."""
UNNAMED = {"The 429", "line", "option", "exit code", "what happened", "target", "Page", "What",
           "Argument", "Client", "Decision", "Door", "A stated limit",
           "How an InfeStream ended", "Stage", "form",
           "You have", "tenacity", "The SDK alone", "The Router", "async-batch-llm",
           "Class", "The body of a 2xx", "The question", "What happens", "Change", "Engine",
           "Error"}  # fmt: skip
"""First columns that hold no names, or names that other tests look at."""


def named_by_the_code(table):
    """Return the names that the first column of a table has to hold, or None where it has none."""
    first = table.head[0]
    if first in UNNAMED:
        return None
    if first == "Parameter" and table.page != "presets.md":
        name = {"The HTTP transport": "InfeTransport"}.get(table.subject, table.subject)
        return parameters(getattr(resilient_infe, name))
    if first == "Event" and table.page != "events.md":
        return {name for row in table.rows for name in names(row["Event"]) if name in EVENTS}
    return public(FIELDS[table.page]) if first == "Field" else NAMED[first]


ALL_TABLES = [
    pytest.param(table, id=f"{table.page}-{table.subject}-{table.head[0]}")
    for path in PAGES
    for table in tables(path)
]


@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_table_names_what_the_code_has(table):
    """The first column of each table holds the names of the code: all of them, and no others."""
    expected = named_by_the_code(table)
    if expected is not None:
        cells = [row[table.head[0]] for row in table.rows]
        found = cells if table.head[0] == "Kind" else [n for cell in cells for n in names(cell)]
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_table_shows_the_real_defaults(table):
    """Each default that a table shows is the code's; `none` and `-` say that there is none."""
    functions = {"service": presets.service, "batch": presets.batch, "Default": None}
    for column in functions.keys() & table.head if table.head[0] != "What" else ():
        expected = named_by_the_code(table)
        if functions[column] is not None:
            expected = parameters(functions[column])
        for row in table.rows:
            [name] = names(row[table.head[0]])
            assert is_default(row[column], expected.get(name, inspect.Parameter.empty)), row


def is_default(cell, default):
    """Whether a cell begins with this default, as code."""
    if default is inspect.Parameter.empty:
        return cell in ("-", "none")
    shown = cell.split("`")[1] if cell.startswith("`") else ""
    try:
        return ast.literal_eval(shown) == default
    except (ValueError, SyntaxError):
        return shown == default or shown.split(".")[-1] == getattr(default, "__name__", None)


@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_table_of_events_is_the_codes(table):
    """Each event has the class, the level and the fields that its row says."""
    for row in table.rows if table.head[0] == "Event" else ():
        cls = EVENTS[row["Event"].strip("`")]
        assert names(row["Fields"]) == [field.name for field in dataclasses.fields(cls)]
        assert row.get("Class", f"`{cls.__name__}`") == f"`{cls.__name__}`"
        level = logging.getLevelName(LEVELS.get(cls.name, logging.DEBUG))
        assert row.get("Level", level).startswith(level)


def test_every_event_is_on_the_page_of_its_layer():
    """The pages of the layers name all events between them."""
    pages = [path for path in PAGES if path.parent.name == "layers"]
    found = [names(row["Event"]) for path in pages for table in tables(path)
             for row in table.rows if "Event" in row]  # fmt: skip
    assert sorted(name for [name] in found) == sorted(EVENTS)


@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_column_of_kinds_holds_kinds(table):
    """Where a table has a column of kinds, each cell is one, by its name or its value."""
    for row in table.rows:
        for column in ("Kind", "kind"):
            assert row.get(column, "ok").strip("`") in {*Kind, *Kind.__members__}


def test_the_table_of_kinds_is_the_codes():
    """docs/kinds.md says of each kind what the code does with it."""
    [table] = tables(ROOT / "docs/kinds.md")
    for row in table.rows:
        kind = Kind[row["Kind"]]
        for status in re.findall(r"\b(\d{3})\b(?! with)", row["from"]):
            assert classify_reply(int(status), {}, None).kind is kind, status
        assert row["Retry"].startswith(("never", "-", "only")) == (kind not in RETRYABLE), kind
        circuit = "failure" if kind in FAILURES else "success" if kind in ANSWERS else "-"
        assert row["Circuit"] == circuit, kind
        allowance = Allowance(requests_per_minute=600)
        hint = Verdict(kind, retry_after=2.0)
        told = [list(learn(allowance, allowance.reserve(0.0), hint, 0.0, 300.0)) for _ in range(3)]
        closed = told == [[], [], [GateClosed(2.0, REASON % kind)]]
        assert row["rate gate"].startswith("closes at the third hint") == closed
        assert row["reservation"].startswith(SETTLEMENTS[kind].value), kind


def test_statistics_are_those_of_the_policies():
    """docs/presets.md names every field of each policy's statistics."""
    rows = [row for table in tables(ROOT / "docs/presets.md") for row in table.rows]
    described = {row["Field"].strip("`"): row for row in rows if "Field" in row}
    seen = [table.head[0] for table in tables(ROOT / "docs/observability.md")]
    assert len([head for head in seen if head.startswith("Of ")]) == len(STATISTICS) + 2
    for name, cls in STATISTICS.items():
        cell = next(cell for column, cell in described[name].items() if column != "Field")
        assert set(names(cell)) - {"None"} == public(cls)


def test_the_tables_of_errors_are_the_codes():
    """docs/transport.md names every error, and what its statuses raise."""
    page = ROOT / "docs/transport.md"
    known = {name for name, cls in vars(errors).items() if isinstance(cls, type)} - {"Any", "Kind"}
    assert known <= set(names(page.read_text()))
    for table in tables(page):
        for row in table.rows if table.head[0] == "Class" else ():
            assert set(names(row["Class"])) <= known
            for status in re.findall(r"\b(\d{3})\b(?! with)", row.get("Status", "")):
                raised = type(error_of(Reply(int(status), {}, None))).__name__
                assert raised == names(row["Class"])[0], status


def test_options_of_the_command_are_the_parsers():
    """Each option that a page names exists; the pages of `run` and `serve` name all of theirs."""
    options = {command: options_of(command) for command in COMMANDS}
    for path in PAGES:
        found = set(re.findall(r"`(--[a-z-]+)", path.read_text()))
        assert found <= {"--version"}.union(*options.values()), path.name
        for command in {"batch.md": ["run"], "testing.md": ["serve"]}.get(path.name, []):
            assert options[command] - {"--help"} <= found


def options_of(command):
    """Return the long options of a command."""
    [commands] = [each for each in _parser([command])._actions if each.choices]
    found = commands.choices[command]._option_string_actions
    return {each for each in found if each.startswith("--")}


FOREIGN = {"ClientSession", "gather", "raise_for_status"}
"""What pages name that is not ours."""

ROOTS = {"call": Call, "stack": Stack, "limiter": RateLimiter, "event": events.Event,
         "books": Books, "telemetry": resilient_infe.telemetry,
         "classify": resilient_infe.classify}  # fmt: skip
OWN = [path for path in PAGES if path.parent.name not in ("adr", "howto")
       and path.name != "coming-from.md"]  # names what others have  # fmt: skip


@pytest.mark.parametrize("path", OWN, ids=lambda p: p.name)
def test_a_page_names_what_exists(path):
    """Each name in the text of a page is one of the code, and each file one of the package."""
    package = ROOT / "resilient_infe"
    files = [*package.rglob("*.py"), *package.rglob("*.toml")]
    words = set(re.findall(r"\w+", "".join(each.read_text() for each in files)))
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for file in re.findall(r"`([a-z_0-9/]+/[a-z_0-9]+\.py)`", text):
        assert (package / file).exists(), file
    for name in re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", text):
        root, *rest = name.split(".")
        owner = ROOTS.get(root) or getattr(resilient_infe, root, None)
        if name in EVENTS or name.endswith((".md", ".py", ".jsonl")):
            continue
        if rest and owner is not None:
            fields = getattr(
                owner, "__dataclass_fields__", ()
            )  # one without a default is no attribute
            assert rest[0] in fields or hasattr(owner, rest[0]), name
        assert {root, *rest} <= words | FOREIGN | {"resilient_infe"}, name


def test_the_glossary_is_in_alphabetical_order():
    """The entries of the glossary are sorted, and each says where to read on."""
    page = (ROOT / "docs/glossary.md").read_text()
    entries = [entry.split("\n", 1) for entry in page.split("### ")[1:]]
    words = [word.casefold() for word, _ in entries]
    assert words == sorted(words)
    assert all(re.search(r"\]\([a-z]|`[a-z_]+/\w+\.py`", text) for _, text in entries)
