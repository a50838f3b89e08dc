"""Limits that differ by model: an argument of a policy may be a mapping from model to value.

For example, ``{"infe-pulse": 1_200, "infe-titan": 300, "*": 60}`` is 1,200 for infe-pulse, 300 for
infe-titan, and 60 for each other model. Calls that name no model get what each other model gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from ..errors import ConfigurationError
from . import bounds
from .ids import safe_name
from .keyed import Keepable, Keyed

OTHERS = "*"
"""The name that stands for each model that is not named."""

Rate: TypeAlias = float | Mapping[str, float | None] | None
"""A limit per period: a number, one per model, or None if none is declared."""

Count: TypeAlias = int | Mapping[str, int]
"""A whole number, or one per model."""

K = TypeVar("K", bound=Keepable)


def differs(limits: Mapping[str, Any]) -> bool:
    """Whether any of the arguments is a mapping from model to value."""
    return any(isinstance(each, Mapping) for each in limits.values())


def value_for(value: Any, model: str | None) -> Any:
    """Return what an argument is for a model; None if its mapping says nothing of it.

    Args:
        value: one value for all models, or a mapping from model to value.
        model: the model's name; None for a call that names none.
    """
    if not isinstance(value, Mapping):
        return value
    name = OTHERS if model in (None, OTHERS) else safe_name(model or "")
    return value[name] if name in value else value.get(OTHERS)


def by_model(
    make: Callable[..., K],
    limits: Mapping[str, Any],
    usual: Mapping[str, Any] | None = None,
    *,
    max_keys: int = 1_024,
) -> Keyed[K]:
    """Return a `Keyed` that makes the policy of each model with the model's own arguments.

    Args:
        make: makes a policy; it takes `limits` by name.
        limits: the arguments by name. Each is one value for all models, or a mapping from model to
            value, which is copied.
        usual: by name, the value of an argument for a model that its mapping does not name, if the
            mapping has no ``"*"``; None for an argument that is not in it.
        max_keys: as for `Keyed`.

    Raises:
        ConfigurationError: a mapping is empty, a name is not a text, two names are the same in
            logs, or `make` refuses a value. The message names the argument or the model.
    """
    checked = {name: checked_by_model(name, value, usual or {}) for name, value in limits.items()}
    mappings = [value for value in checked.values() if isinstance(value, dict)]
    names = tuple(dict.fromkeys(name for each in mappings for name in each if name != OTHERS))

    def made(key: str | None) -> K:
        return make(**{name: value_for(value, key) for name, value in checked.items()})

    made.by_names = True  # type: ignore[attr-defined]  # `Keyed.by_names` reads it
    known = set()
    for model in (*names, OTHERS):  # a wrong value raises now, not at the first call
        values = tuple(bounds.shown(value_for(value, model)) for value in checked.values())
        if values in known:
            continue
        known.add(values)
        try:
            made(model)
        except ConfigurationError as error:
            where = f"for {_shown(model)}: " if mappings else ""
            raise ConfigurationError(f"{where}{error}") from None
    return Keyed(made, max_keys=max_keys, names=names)


def checked_by_model(name: str, value: Any, usual: Mapping[str, Any]) -> Any:
    """Return an argument; a mapping as a copy whose keys are safe to log, ``"*"`` among them.

    Args:
        name: of the argument.
        value: one value for all models, or a mapping from model to value.
        usual: by name, the value that ``"*"`` has if the mapping does not say.

    Raises:
        ConfigurationError: a mapping is empty, a name is not a text, or two are the same in logs.
    """
    if not isinstance(value, Mapping):
        return value
    if not value:
        raise ConfigurationError(
            f"{name} is an empty mapping: name at least one model, like {{'infe-pulse': 600}}, or "
            f"leave it out"
        )
    found: dict[str, Any] = {}
    for model, each in value.items():
        if not isinstance(model, str) or not model:
            raise ConfigurationError(
                f"{name}: a key is the name of a model, or {OTHERS!r} for each other model; got "
                f"{bounds.shown(model)}"
            )
        safe = model if model == OTHERS else safe_name(model)
        if safe in found:
            raise ConfigurationError(f"{name} names the model {safe!r} twice")
        found[safe] = each
    found.setdefault(OTHERS, usual.get(name))
    return found


def _shown(model: str) -> str:
    return f"each other model ({OTHERS!r})" if model == OTHERS else f"the model {model!r}"
