"""Checks of what a user configures: a wrong value, or one of a wrong type, is told at once."""

from __future__ import annotations

import inspect
import math
from typing import Any, TypeGuard

from ..errors import ConfigurationError


def positive(value: object, what: str) -> float:
    """Return a number above 0 and finite.

    Raises:
        ConfigurationError: it is none; the message begins with `what`.
    """
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigurationError(f"{what} is a number above 0; got {value!r}")
    return value


def at_least(value: object, least: float, what: str) -> float:
    """Return a finite number from `least` on.

    Raises:
        ConfigurationError: it is none; the message begins with `what`.
    """
    if not _is_number(value) or not least <= value < math.inf:
        raise ConfigurationError(f"{what} is a number from {least:g}; got {value!r}")
    return value


def share(value: object, what: str) -> float:
    """Return a number in (0, 1].

    Raises:
        ConfigurationError: it is none; the message begins with `what`.
    """
    if not _is_number(value) or not 0 < value <= 1:
        raise ConfigurationError(f"{what} is in (0, 1]; got {value!r}")
    return value


def whole(value: object, least: int, what: str) -> int:
    """Return a whole number from `least` on.

    Raises:
        ConfigurationError: it is none; the message begins with `what`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{what} is a whole number from {least}; got {value!r}")
    return value


def instance(value: Any, cls: type, what: str, instead: str) -> None:
    """Check that a value is of a class.

    Raises:
        ConfigurationError: it is not; the message says what to give `instead`.
    """
    if isinstance(value, type):
        raise ConfigurationError(f"{what}: give an instance, {value.__name__}(...), not the class")
    if not isinstance(value, cls):
        raise ConfigurationError(f"{what}: give {instead}; got {value!r}")


def function(value: object, arguments: int, what: str) -> None:
    """Check that a value can be called with a number of arguments, and is not asynchronous.

    Raises:
        ConfigurationError: it cannot; the message begins with `what`.
    """
    if not callable(value):
        raise ConfigurationError(f"{what}; got {value!r}")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(
        getattr(value, "__call__", None)  # noqa: B004  # an object with an async __call__
    ):
        raise ConfigurationError(f"{what} that answers at once, not an async one")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # of one written in C
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        raise ConfigurationError(f"{what}; {value!r} does not take that: {error}") from None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
