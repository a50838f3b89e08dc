"""The rows of rules: what single vendors and gateways mean by a code, and where they hide a hint.

The core's table is the API's own, and knows shapes. What one vendor does is data: ``rules.toml``
beside this file, with the source of each row. It is read when the first error comes, so that
importing the package and its successes cost nothing.

A row is looked up by the names that an error states: its ``code``, its ``type``, its reason, and
a type in a header of its own. Case and what joins words do not matter: ``insufficient_quota`` is
also ``InsufficientQuota``. There are three ways to narrow a row:

1. ``status``: a status, or a list of them. Without it the row holds for every 4xx. Inside a success
   it always holds, unless the error's code is itself a status.
2. ``where``: fields of the body, by their dotted path, and the value of each.
3. ``hinted``: whether the response has to say when to ask again.

``crowded`` says that too many calls were in flight, so that the slots are narrowed, not the rate. A
row without ``names`` holds for its status alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ..core.verdict import Kind
from ..errors import ConfigurationError
from .error_body import plain_name

Source: TypeAlias = str | Path | Sequence[Mapping[str, Any]]
"""Rules of a user's own: the path of a TOML or JSON file, or the rows themselves."""

BUILT_IN = Path(__file__).with_name("rules.toml")
"""The rows that always hold, after a user's own."""

_RULE = frozenset(
    ("names", "status", "where", "hinted", "crowded", "kind", "advice", "vendor", "source")
)
_HINT = frozenset(("field", "prefix", "header", "vendor", "source"))


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One row: what an error means.

    Attributes:
        kind: what it means.
        advice: what the user can do, or None for the advice of the kind.
        statuses: the statuses for which it holds; empty for every 4xx.
        where: the fields that the body must have.
        hinted: whether the response must say when to ask again.
        crowded: whether too many calls in flight are why the server refused.
    """

    kind: Kind
    advice: str | None = None
    statuses: frozenset[int] = frozenset()
    where: tuple[tuple[str, str], ...] = ()
    hinted: bool = False
    crowded: bool = False

    def holds(self, status: int | None, content: Any, *, hinted: bool) -> bool:
        """Whether the row holds for a reply that has one of its names.

        Args:
            status: the status; None inside a success without a status of its own.
            content: the decoded body.
            hinted: whether the response says when to ask again.
        """
        if status is not None:
            known = status in self.statuses if self.statuses else 400 <= status < 500
            if not known:
                return False
        if self.hinted and not hinted:
            return False
        return all(_at(content, path) == value for path, value in self.where)


@dataclass(slots=True)
class Rules:
    """Rows by name, and where hints are hidden.

    Attributes:
        named: the rows of each name, by its `plain_name`.
        nameless: the rows without a name.
        fields: fields of an error's body that hold a number of seconds.
        prefixes: what proxies put before the names of an upstream's headers.
        headers: headers that hold the type of an error.
        after: the rules that are asked next, or None.
    """

    named: dict[str, list[RuleRow]] = field(default_factory=dict)
    nameless: list[RuleRow] = field(default_factory=list)
    fields: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    after: Rules | None = None

    def find(
        self, status: int | None, names: Iterable[str], content: Any, *, hinted: bool
    ) -> RuleRow | None:
        """Return the first row that holds, or None. Arguments as for `RuleRow.holds`."""
        names = tuple(map(plain_name, names))
        for row in self._candidates(names, status):
            if row.holds(status, content, hinted=hinted):
                return row
        if self.after is None:
            return None
        return self.after.find(status, names, content, hinted=hinted)

    def _candidates(self, names: tuple[str, ...], status: int | None) -> Iterator[RuleRow]:
        for name in names:
            yield from self.named.get(name, ())
        if status is not None:
            yield from self.nameless


@functools.cache
def built_in() -> Rules:
    """Return the rules of the package, read at the first call."""
    return made(BUILT_IN, after=None)


def with_own(source: Source) -> Rules:
    """Return the user's rules, which come before those of the package.

    Args:
        source: a TOML or JSON file, or a list of rows.

    Raises:
        ConfigurationError: the file cannot be read, or a row is wrong; the message says which.
    """
    return made(source, after=built_in())


def made(source: Source, after: Rules | None) -> Rules:
    """Return rules made of rows.

    Args:
        source: a TOML or JSON file, or a list of rows.
        after: the rules that are asked next; where they look for hints and types holds too.

    Raises:
        ConfigurationError: the file cannot be read, or a row is wrong; the message says which.
    """
    content = _read(source) if isinstance(source, str | Path) else {"rule": source}
    if not isinstance(content, Mapping) or not content.keys() <= {"rule", "hint"}:
        raise ConfigurationError("rules hold the lists `rule` and `hint`, and nothing else")
    rules = Rules(after=after)
    for row in _listed(content.get("rule", ()), _RULE, "rule"):
        _add(rules, row)
    hints = list(_listed(content.get("hint", ()), _HINT, "hint"))
    rules.fields = (*_texts(hints, "field"), *(() if after is None else after.fields))
    rules.prefixes = (*_texts(hints, "prefix"), *(() if after is None else after.prefixes))
    rules.headers = (*_texts(hints, "header"), *(() if after is None else after.headers))
    return rules


def _add(rules: Rules, row: Mapping[str, Any]) -> None:
    names, statuses, where = row.get("names", ()), row.get("status", ()), row.get("where", {})
    names = [names] if isinstance(names, str) else names
    statuses = [statuses] if isinstance(statuses, int) else statuses
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in set(Kind):
        raise ConfigurationError(f"kind of a rule must be one of {', '.join(Kind)}: {dict(row)}")
    right = (
        isinstance(names, Sequence)
        and all(isinstance(name, str) for name in names)
        and isinstance(statuses, Sequence)
        and all(type(status) is int and 100 <= status < 600 for status in statuses)
        and isinstance(where, Mapping)
        and isinstance(row.get("hinted", False), bool)
        and isinstance(row.get("crowded", False), bool)
        and isinstance(row.get("advice", ""), str)
    )
    if not right or not (names or statuses):
        raise ConfigurationError(
            f"a rule has `names` (text), or `status` (100 to 599), or both, and may have `where` "
            f"(a table), `hinted` and `crowded` (true or false) and `advice` (text): {dict(row)}"
        )
    made = RuleRow(
        Kind(kind),
        row.get("advice"),
        frozenset(statuses),
        tuple((str(path), str(value)) for path, value in where.items()),
        row.get("hinted", False),
        row.get("crowded", False),
    )
    for name in names:
        rules.named.setdefault(plain_name(name), []).append(made)
    if not names:
        rules.nameless.append(made)


def _listed(rows: Any, known: frozenset[str], what: str) -> Iterator[Mapping[str, Any]]:
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise ConfigurationError(f"`{what}` of the rules must be a list")
    for row in rows:
        if not isinstance(row, Mapping) or not row.keys() <= known:
            names = ", ".join(sorted(known))
            raise ConfigurationError(f"a {what} is a table with {names}; got {row!r}")
        yield row


def _texts(rows: list[Mapping[str, Any]], name: str) -> Iterator[str]:
    for row in rows:
        value = row.get(name)
        if isinstance(value, str):
            yield value if name == "field" else value.lower()


def _read(path: str | Path) -> Any:
    try:
        content = Path(path).read_text(encoding="utf-8")
        if Path(path).suffix == ".json":
            return json.loads(content)
        import tomllib  # slow to load, and needed only for the first error

        return tomllib.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"the rules in {path} cannot be read: {error}") from None


def _at(content: Any, path: str) -> str | None:
    """Return what stands at a dotted path, as text; None if there is nothing."""
    for name in path.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, str) or content is None else str(content)
