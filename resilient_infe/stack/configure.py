"""Changes the limits of a stack while calls run, wait and come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypedDict

from ..aio.revised import Planned, check_here, planned
from ..core import bounds
from ..core.by_model import OTHERS, Count, Rate
from ..errors import ConfigurationError, TooManyPartitions
from ..events import ConfiguredLimit
from ..rate.layer import RateLimiter
from ..rate.rates import NAMES
from ..slots.layer import ConcurrencyLimiter

CONCURRENCY = "concurrency"
"""The name of the limit on attempts in flight."""

ACCOUNT = "account"
"""The name of the argument with the limits over all models."""


class Limits(TypedDict, total=False):
    """The limits that can be changed; `Stack.configure` describes them."""

    concurrency: Count | None
    requests_per_minute: Rate
    tokens_per_minute: Rate
    input_tokens_per_minute: Rate
    output_tokens_per_minute: Rate
    requests_per_day: Rate
    tokens_per_day: Rate
    account: Mapping[str, float] | None


LIMITS = tuple(Limits.__annotations__)
"""Their names."""

Step = tuple[RateLimiter | ConcurrencyLimiter, Planned, bool]
"""The layer that a change is of, the change, and whether it is one of the account."""


def configure(
    layers: Sequence[Any], wanted: Mapping[str, Any], model: str | None
) -> tuple[ConfiguredLimit, ...]:
    """Change limits; return those that are others now. If one of them cannot be, none is.

    Args:
        layers: those of the stack.
        wanted: the new limits by name; None keeps a limit.
        model: whose they are; None for all models, and where a value is a mapping.

    Raises:
        ConfigurationError: the stack has no such limit, a value is out of range, or it is not clear
            whose limit is meant.
        WrongLoopError: the stack is used in another thread.
    """
    given = {name: value for name, value in wanted.items() if value is not None}
    unknown = next((name for name in given if name not in LIMITS), None)
    if unknown is not None or not given:
        what = "say which limit to change" if unknown is None else f"there is no limit {unknown!r}"
        near = get_close_matches(unknown or "", LIMITS, 1)
        hint = f"do you mean {near[0]}?" if near else f"it takes {', '.join(LIMITS)}"
        raise ConfigurationError(f"configure: {what}; {hint}")
    steps = [step for name, value in given.items() for step in _steps(layers, name, value, model)]
    changes = []
    for layer, each, of_account in steps:
        _apply(layer, each)
        if each.old != each.new:
            changes.append(ConfiguredLimit(each.limit, each.model, each.old, each.new, of_account))
    return tuple(changes)


def _steps(layers: Sequence[Any], name: str, value: Any, model: str | None) -> Iterator[Step]:
    """Yield what one argument changes, once all of it is checked."""
    if name == CONCURRENCY:
        slots = _only(layers, ConcurrencyLimiter, name)
        for each in planned(slots.slots, name, _checked(name, value), model):
            yield slots, each, False
        return
    rates = _only(layers, RateLimiter, name)
    if name == ACCOUNT:
        for each in _of_account(rates, value, model):
            yield rates, each, True
        return
    for each in planned(rates.allowances, name, _checked(name, value), model):
        yield rates, each, False


def _of_account(layer: RateLimiter, given: Any, model: str | None) -> Iterator[Planned]:
    account = layer.account
    if account is None:
        raise ConfigurationError(
            "this stack has no limit over all models: make it with account=, and it can be changed"
        )
    if model is not None or not isinstance(given, Mapping) or not given:
        raise ConfigurationError(
            'account is a mapping like {"requests_per_minute": 2_000}, of all models together'
        )
    check_here(account)
    for name, value in given.items():
        if name not in NAMES:
            raise ConfigurationError(
                f"account: {bounds.shown(name)} is not a limit: give one of {', '.join(NAMES)}"
            )
        new = _checked(name, value)
        yield Planned(name, None, (account.allowance,), account.allowance.declared(name), new)


def _checked(name: str, value: Any) -> Any:
    """Return a limit, or a mapping of some, if each is in range.

    Raises:
        ConfigurationError: one is not.
    """
    for each in value.values() if isinstance(value, Mapping) else (value,):
        if name == CONCURRENCY:
            bounds.whole(each, 1, name)
        elif isinstance(each, Mapping):
            raise ConfigurationError(f"{name} takes a number, or one for each model")
        else:
            bounds.positive(each, name)
    return value


def _only(layers: Sequence[Any], kind: type[Any], name: str) -> Any:
    """Return the one layer of a kind.

    Raises:
        ConfigurationError: there is none, or there are several.
    """
    found = [layer for layer in layers if isinstance(layer, kind)]
    if len(found) != 1:
        number = "no" if not found else f"{len(found)}"
        hint = "" if not found else ": call resize() of the one that you mean"
        raise ConfigurationError(
            f"{name} cannot be configured: this stack has {number} {kind.__name__} "
            f"layer{'s' if found else ''}{hint}"
        )
    return found[0]


def _apply(layer: RateLimiter | ConcurrencyLimiter, change: Planned) -> None:
    change.remember()
    policies: Any = layer.allowances if isinstance(layer, RateLimiter) else layer.slots
    for policy in change.policies:
        layer.declare(policy, **{change.limit: change.new})
    if not change.policies and change.model not in (None, OTHERS):
        with contextlib.suppress(TooManyPartitions):  # it is made when a call comes
            policies.to_resize(change.model)
