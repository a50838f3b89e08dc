"""What is said of an option, once: the command, files of options and the docs all read it here.

An option is a field of a frozen dataclass, such as `JobOptions`, made by `option`. To add one is to
add that field: `run` takes it, a TOML file may have it, ``--help``, the completion of a shell and
the table in the docs list it, and the preset gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias

Group: TypeAlias = Literal["input", "results", "run", "API", "attempts", "limits", "cost"]
"""The heading under which ``--help`` and the docs list an option."""

GROUPS: tuple[Group, ...] = ("input", "results", "run", "API", "attempts", "limits", "cost")
"""The groups in the order in which they are listed."""

OPTION = "option"
"""The key of an `Option` in the metadata of its field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        default: its value if it is not given; a flag changes False to True or True to False.
        help: what it does; values in backticks. Empty for one that is not to be seen.
        unit: what its value is called, like FILE or SECONDS; None for a flag.
        kind: returns the value for a text, or raises `argparse.ArgumentTypeError`; None for a text
            as it is.
        group: where it is listed.
        field: the field of the options' class that has its value.
        name: the long name, without dashes in front; by default that of the field.
        short: further names, with their dashes.
        usual: the default in words, if not as it is.
        environment: the variable that has its value where neither the command nor the file does.
        verbs: the commands that take it; none for what only a file of options may have.
        positional: whether it is given without its name.
        by_model: whether it may differ by model.
        preset: whether `presets.batch` has an argument of the field's name for it.
        secret: whether its value may hold a password, so that it is not part of a repr.
    """

    default: Any
    help: str
    unit: str | None
    kind: Callable[[str], Any] | None
    group: Group
    field: str = ""
    name: str = ""
    short: tuple[str, ...] = ()
    usual: str | None = None
    environment: str | None = None
    verbs: tuple[str, ...] = ("run",)
    positional: bool = False
    by_model: bool = False
    preset: bool = False
    secret: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names as they are written in a command; none if it is positional."""
        return () if self.positional else (*self.short, f"--{self.name}")

    @property
    def shown_default(self) -> str:
        """The default in words."""
        if self.usual is not None or isinstance(self.default, bool):
            return self.usual or "off"
        known = isinstance(self.default, int | float)
        return f"{self.default:g}" if known else self.default or ""

    @property
    def in_tables(self) -> tuple[str, ...]:
        """The names as they are written in a file of options."""
        return (self.name, *(each[2:] for each in self.short if each.startswith("--")))


def option(
    default: Any,
    help: str,  # noqa: A002
    unit: str | None = None,
    kind: Callable[[str], Any] | None = None,
    **more: Any,
) -> Any:
    """Return the field of an option.

    Args:
        default: as for `Option`, as is each argument; `...` if there is none.
        help: may be empty.
        unit: None, the default, for a flag.
        kind: None, the default, for a text.
        more: its group, and what else is not as usual.
    """
    value = None if default is ... else default
    told = Option(default=value, help=help, unit=unit, kind=kind, **more)
    return field(
        default=MISSING if default is ... else default,
        repr=bool(help) and not told.secret,
        metadata={OPTION: told},
    )


def options_of(cls: type) -> tuple[Option, ...]:
    """Return the options of a class, in the order of the groups and then of the fields."""
    found = [
        replace(each.metadata[OPTION], field=each.name,
                name=each.metadata[OPTION].name or each.name.replace("_", "-"))
        for each in fields(cls) if OPTION in each.metadata
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: GROUPS.index(each.group)))


def options_table(options: Iterable[Option]) -> str:
    """Return the table of options for a page of the docs, in Markdown."""
    lines = ["| option | default | what it does |", "|---|---|---|"]
    for each in options:
        if each.help and each.names:
            names = ", ".join(f"`{name}`" for name in reversed(each.names))
            variable = f"; else that of `{each.environment}`" if each.environment else ""
            unit = f" {each.unit}" if each.unit else ""
            lines.append(f"| {names}{unit} | {each.shown_default} | {each.help}{variable} |")
    return "\n".join(lines)
