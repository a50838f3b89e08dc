"""A stack as plain data: a mapping, or a TOML file.

The layers stand in a list, outermost first, each as a table of the options that differ from their
defaults. What is plain is written by name as in code, so that the documentation of a layer is that
of its table::

    [[stack.layers]]
    layer = "Retry"
    max_attempts = 4
    backoff = { initial = 0.5 }

    [[stack.layers]]
    layer = "ErrorClassifier"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from ..circuit.circuit import Circuit
from ..circuit.layer import CircuitBreaker
from ..classify.layer import ErrorClassifier
from ..core import bounds
from ..errors import ConfigurationError
from ..fallback.layer import Fallback
from ..fallback.targets import USUAL, Target
from ..hedge.layer import Hedge
from ..rate.account import NOT_SHARED, Account
from ..rate.allowance import Allowance
from ..rate.layer import RateLimiter
from ..retry.backoff import ExponentialBackoff
from ..retry.budget import RetryBudget
from ..retry.layer import Retry
from ..retry.schedule import KindRule
from ..slots.layer import ConcurrencyLimiter
from ..slots.slots import Slots
from ..telemetry.request_id import RequestIdLogger
from ..timeouts.attempt import AttemptTimeout
from ..timeouts.deadline import Deadline
from .forms import ByKind, Each, Kinds, Plain, Policy, Table, made, unknown
from .layers import name_of

LONGEST_CONFIG = 64 * 1024
"""Bytes. A configuration is shorter, and the parser's time grows with the square of a key."""


class AccountForm(Table):
    """An account. What a mapping leaves out is the layer's, so an object is written in full."""

    def read(self, value: Any, where: str) -> Any:
        """Return the mapping of its arguments; the layer makes the object."""
        return self.arguments(value, where)

    def write(self, value: Any, where: str) -> Any:
        """Return its arguments."""
        if isinstance(value, Account):
            filled = ("share", "trickle", "cached_weight")
            usual = {name: self.parameters[name].default for name in filled}
            value = {**usual, **self.given(value)}
        return Plain().write(value, where)


_BACKOFF = Table(ExponentialBackoff)
_ACCOUNT = AccountForm(Account, *NOT_SHARED, others=Allowance)

FORMS: dict[type, Table] = {
    RequestIdLogger: Table(RequestIdLogger, "logger"),
    Deadline: Table(Deadline),
    Retry: Table(
        Retry,
        "uniform",
        backoff=_BACKOFF,
        budget=Table(RetryBudget),
        rules=ByKind(Table(KindRule, backoff=_BACKOFF)),
    ),
    Fallback: Table(Fallback, targets=Each(Table(Target, "transport")), on=Kinds()),
    Hedge: Table(Hedge),
    ConcurrencyLimiter: Table(ConcurrencyLimiter, slots=Policy(Slots)),
    RateLimiter: Table(
        RateLimiter, "estimate", allowance=Policy(Allowance, "belief"), account=_ACCOUNT
    ),
    CircuitBreaker: Table(CircuitBreaker, "uniform", circuit=Policy(Circuit)),
    ErrorClassifier: Table(ErrorClassifier, "classify", "check", "mend"),
    AttemptTimeout: Table(AttemptTimeout),
}
"""The layers that have a plain form."""

LAYERS = {cls.__name__: cls for cls in FORMS}
"""The layers by name."""

KEYS = ("layers", "strict")
"""What a configuration has."""


def table_of(config: Mapping[str, Any] | str | PathLike[str]) -> Mapping[str, Any]:
    """Return the table of a stack in a mapping or a TOML file.

    Raises:
        ConfigurationError: there is none, or it has other keys.
    """
    found: Any = config
    if isinstance(config, str | PathLike):
        found = _parsed(Path(config))
    if not isinstance(found, Mapping):
        raise ConfigurationError(
            f"a configuration is a mapping, or the path of a TOML file; got {bounds.shown(config)}"
        )
    table: Any = found.get("stack", found)
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"stack is a table: [stack]; got {bounds.shown(table)}")
    for name in table:
        if name not in KEYS:
            raise ConfigurationError(f"stack has no key {unknown(str(name), KEYS)}")
    if not isinstance(table.get("strict", True), bool):
        raise ConfigurationError(
            f"stack: strict is true or false; got {bounds.shown(table['strict'])}"
        )
    return table


def layers_of(
    table: Mapping[str, Any], more: Mapping[type, Mapping[str, Any]] | None = None
) -> list[Any]:
    """Return the layers of a table.

    Args:
        table: the result of `table_of`.
        more: by class of a layer, options that are not plain.

    Raises:
        ConfigurationError: there are none, or one cannot be read.
    """
    given = table.get("layers")
    if not isinstance(given, list | tuple) or not given:
        raise ConfigurationError(
            f"stack: layers is a list of tables, outermost first, like [[stack.layers]]; got "
            f"{bounds.shown(given)}"
        )
    return [_layer(each, number, more or {}) for number, each in enumerate(given, 1)]


def written(layer: Any, number: int) -> dict[str, Any]:
    """Return the table of a layer, which is the `number`-th.

    Raises:
        ConfigurationError: it has no plain form.
    """
    name, form = name_of(layer), FORMS.get(type(layer))
    where = f"layer {number} ({name})"
    if form is None:
        raise ConfigurationError(
            f"{where} has no plain form: it is of your own; build this stack in code"
        )
    given = form.given(layer)
    if isinstance(layer, Fallback):  # what it was given may be gone, if it was an iterator
        given = {"targets": layer.targets, "on": None if layer.on == set(USUAL) else layer.on}
        given = {name: each for name, each in given.items() if each is not None}
    return {"layer": name, **form.table(given, where)}


def _layer(given: Any, number: int, more: Mapping[type, Mapping[str, Any]]) -> Any:
    table: Any = {"layer": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or "layer" not in table:
        raise ConfigurationError(
            f"layer {number} is a table with its name, like layer = 'Retry'; got "
            f"{bounds.shown(given)}"
        )
    name = table["layer"]
    cls = LAYERS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ConfigurationError(
            f"layer {number}: there is no layer {unknown(str(name), list(LAYERS))}"
        )
    where = f"layer {number} ({name})"
    options = {option: each for option, each in table.items() if option != "layer"}
    arguments = FORMS[cls].arguments(options, where) | dict(more.get(cls, {}))
    targets = (arguments.pop("targets", None) or ()) if cls is Fallback else ()
    return made(partial(cls, *targets, **arguments), where)


def _parsed(path: Path) -> Any:
    import tomllib  # few programs read a file

    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_CONFIG + 1)
        if len(content) > LONGEST_CONFIG:
            raise ConfigurationError(f"{path} is over {LONGEST_CONFIG:,} bytes long")
        return tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ConfigurationError:
        raise
    except RecursionError:
        raise ConfigurationError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
