"""The user's own rule for an outcome. A bug in it must not turn an answer into a failure."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable
from dataclasses import astuple
from typing import Any, get_args

from ..core import bounds
from ..core.ids import clean_id
from ..core.verdict import Dimension, Kind, Limit, Usage, Verdict
from .table import RETRYABLE

Classify = Callable[[Any, BaseException | None], Verdict | Kind | None]
"""``classify(result, error)`` returns a verdict, a kind, or None for the usual table."""


class Rule:
    """Calls the user's ``classify``. If it fails, that is logged once, and the usual table applies.

    Args:
        classify: called with the result or the exception; the other one is None. If it returns a
            `Kind`, the outcome is retryable if the kind is. If it returns a `Verdict`, the outcome
            is retryable if the verdict has ``retryable``, or if it has a ``retry_after`` (a number
            of seconds above 0) and a kind that is retryable.

    Raises:
        ConfigurationError: it cannot be called with two arguments.

    State: whether a failure was logged.
    """

    def __init__(self, classify: Classify) -> None:
        bounds.function(classify, 2, "classify is a function (result, error)")
        self._classify = classify
        self._reported = False

    def __call__(self, result: Any, error: BaseException | None) -> Verdict | None:
        """Return the user's verdict, or None for the usual table."""
        try:
            given: Any = self._classify(result, error)
            if given is None:
                return None
            if isinstance(given, Verdict):
                return self._checked(given)
            if isinstance(given, Kind):
                name = None if error is None else type(error).__name__
                return Verdict(given, retryable=given in RETRYABLE, error=name)
            raise TypeError(
                f"classify must return a Verdict, a Kind or None; got {type(given).__name__}"
            )
        except Exception as failure:  # a bug in the rule must not turn an answer into a failure
            self._report(failure)
            return None

    def _checked(self, given: Verdict) -> Verdict:
        """Return a verdict that every layer can rely on.

        1. A field with an unusable value is replaced by its default. That is logged, except for a
           ``retry_after`` of 0, which means "no hint" as it does in a header.
        2. A verdict with a ``retry_after`` counts as retryable if its kind is.
        """
        bounds.instance(given.kind, Kind, "Verdict", "a Kind, like Kind.OVERLOADED")
        wrong = [name for name, (valid, _) in _FIELDS.items() if not valid(getattr(given, name))]
        no_hint = wrong == ["retry_after"] and given.retry_after == 0
        if wrong and not no_hint:
            self._report(ValueError(f"the Verdict has an invalid {', '.join(wrong)}: ignored"))
        changes = {name: _FIELDS[name][1] for name in wrong}
        if given.retry_after is not None and "retry_after" not in wrong:
            retryable = changes.get("retryable", given.retryable)
            changes["retryable"] = retryable or given.kind in RETRYABLE
        if all(getattr(given, name) is value for name, value in changes.items()):
            return given
        verdict = copy.copy(given)
        for name, value in changes.items():
            object.__setattr__(verdict, name, value)  # a subclass of the user's may be frozen
        return verdict

    def _report(self, failure: Exception) -> None:
        if not self._reported:
            self._reported = True
            logging.getLogger("resilient_infe").error(
                "the classify function failed (reported once)", exc_info=failure
            )


def _is_number(value: object) -> bool:
    """Whether a layer can calculate with it; a whole number may be too large for a float."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= sys.float_info.max  # type: ignore[operator]


def _is_hint(value: object) -> bool:
    return value is None or (_is_number(value) and value != 0)


def _is_usage(value: object) -> bool:
    if not isinstance(value, Usage):
        return value is None
    return all(map(_is_number, astuple(value)))


def _is_limit(value: object) -> bool:
    if not isinstance(value, Limit) or value.dimension not in get_args(Dimension):
        return False
    stated = (value.limit, value.remaining, value.reset, value.window)
    return all(each is None or _is_number(each) for each in stated)


def _are_limits(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_limit, value))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_id(value: object) -> bool:
    return value is None or clean_id(value) is not None


def _is_status(value: object) -> bool:
    return value is None or isinstance(value, int)


_FIELDS: dict[str, tuple[Callable[[object], bool], Any]] = {
    "retryable": (_is_flag, False),
    "sent": (_is_flag, True),
    "retry_after": (_is_hint, None),
    "usage": (_is_usage, None),
    "limits": (_are_limits, ()),
    "status": (_is_status, None),
    "code": (_is_text, None),
    "advice": (_is_text, None),
    "request_id": (_is_id, None),
    "error": (_is_text, None),
}
"""The fields of a verdict that layers use: the check for a usable value, and the default."""
