"""Checks of configured values: a value of a wrong type or out of range raises at once."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Any, TypeGuard

from ..errors import ConfigurationError

LONGEST_SHOWN = 200
"""Characters of a refused value that a message shows."""


def positive(value: object, what: str) -> float:
    """Return `value` if it is a finite number above 0.

    Raises:
        ConfigurationError: it is not; the message begins with `what`.
    """
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigurationError(f"{what} must be a number above 0; got {shown(value)}")
    return value


def at_least(value: object, least: float, what: str) -> float:
    """Return `value` if it is a finite number, and not below `least`.

    Raises:
        ConfigurationError: it is not; the message begins with `what`.
    """
    if not _is_number(value) or not least <= value < math.inf:
        raise ConfigurationError(
            f"{what} must be a number of {least:g} or more; got {shown(value)}"
        )
    return value


def share(value: object, what: str) -> float:
    """Return `value` if it is a number in (0, 1].

    Raises:
        ConfigurationError: it is not; the message begins with `what`.
    """
    if not _is_number(value) or not 0 < value <= 1:
        raise ConfigurationError(f"{what} must be above 0 and at most 1; got {shown(value)}")
    return value


def between(value: object, least: float, most: float, what: str) -> float:
    """Return `value` if it is a number from `least` to `most`.

    Raises:
        ConfigurationError: it is not; the message begins with `what`.
    """
    if not _is_number(value) or not least <= value <= most:
        raise ConfigurationError(
            f"{what} must be a number from {least:g} to {most:g}; got {value!r}"
        )
    return value


def whole(value: object, least: int, what: str) -> int:
    """Return `value` if it is a whole number, and not below `least`.

    Raises:
        ConfigurationError: it is not; the message begins with `what`.
    """
    if not _is_number(value) or not isinstance(value, int) or value < least:
        raise ConfigurationError(
            f"{what} must be a whole number of {least} or more; got {shown(value)}"
        )
    return value


def instance(value: Any, cls: type, what: str, instead: str) -> None:
    """Check that `value` is an instance of `cls`.

    Raises:
        ConfigurationError: it is not; the message asks for `instead`.
    """
    if isinstance(value, type):
        raise ConfigurationError(f"{what}: give an instance, {value.__name__}(...), not the class")
    if not isinstance(value, cls):
        raise ConfigurationError(f"{what}: give {instead}; got {shown(value)}")


def function(value: object, arguments: int, what: str) -> None:
    """Check that `value` is a synchronous callable that takes a number of positional arguments.

    Raises:
        ConfigurationError: it is not; the message begins with `what`.
    """
    if not callable(value):
        raise ConfigurationError(f"{what}; got {shown(value)}")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(
        getattr(value, "__call__", None)  # noqa: B004  # an object with an async __call__
    ):
        raise ConfigurationError(f"{what}, and must not be async")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # some callables written in C have no signature
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        raise ConfigurationError(f"{what}; {value!r} does not take that: {error}") from None


def shown(value: object) -> str:
    """Return a value that was refused, short enough for a message."""
    try:
        text = repr(value)
    except Exception:  # a user's class may raise anything; a number may have too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold; the caller refuses `nan` and `inf`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float)
