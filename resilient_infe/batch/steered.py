"""What a journal has of how a run was steered: when, what, and from what to what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from sqlite3 import Connection
from typing import Any

from ..events import LimitsConfigured
from .progress import NO_LIMIT

CONFIGURED = LimitsConfigured.name
PAUSED = "batch.paused"
RESUMED = "batch.resumed"
DRAINED = "batch.drained"

IN_WORDS = {PAUSED: "paused", RESUMED: "resumed", DRAINED: "drained"}
"""What is said of each, but of new limits."""

NAMES = (CONFIGURED, *IN_WORDS)
"""The names of the events."""

IS_ONE = f"json_extract(event, '$.name') IN ({', '.join('?' * len(NAMES))})"
"""The condition for them in a query, which takes `NAMES`."""


def steered_in(db: Connection, most: int) -> list[dict[str, Any]]:
    """Return how the runs of a journal were steered, the last `most` of it, in order."""
    found = db.execute(
        f"SELECT event FROM events WHERE {IS_ONE} ORDER BY seq DESC LIMIT ?",  # noqa: S608
        (*NAMES, most),
    )
    return [json.loads(event) for (event,) in found][::-1]


def is_paused(db: Connection) -> bool:
    """Return whether the last run was told to pause, and not to go on since."""
    found = db.execute(
        "SELECT json_extract(event, '$.name') = ? FROM events WHERE "  # noqa: S608
        f"{IS_ONE.replace('?, ', '', 1)} AND at >= (SELECT max(began) FROM runs) "
        "ORDER BY seq DESC LIMIT 1",
        (PAUSED, *IN_WORDS),
    ).fetchone()
    return found is not None and bool(found[0])


def in_words(told: Mapping[str, Any]) -> list[str]:
    """Return what an event says: a text for each limit."""
    if told["name"] != CONFIGURED:
        return [IN_WORDS[told["name"]]]
    return [change_in_words(each) for each in told["changes"]]


def change_in_words(change: Mapping[str, Any]) -> str:
    """Return a limit that was changed as text."""
    model = change["model"]
    whose = "" if model in (None, "*") else f" of {model}"
    whose = " of the account" if change["account"] else whose
    name = change["limit"].replace("_", " ")
    return f"{name}{whose}: {_number(change['old'])} to {_number(change['new'])}"


def _number(value: float | None) -> str:
    if value is None:
        return "not declared"
    return f"{value:,.10g}" if value < NO_LIMIT else "no limit"
