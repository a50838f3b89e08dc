"""The user's own reading of an outcome, which may not turn an answer into a failure."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable
from typing import Any, get_args

from ..core import bounds
from ..core.ids import clean_id
from ..core.verdict import Dimension, Kind, Limit, Usage, Verdict
from .table import RETRYABLE

Classify = Callable[[Any, BaseException | None], Verdict | Kind | None]
"""``classify(result, error)``: a verdict, or just a kind, or None for the usual reading."""


class Rule:
    """Asks the user's ``classify``; one that fails is told about once and then says nothing.

    Args:
        classify: called with the result or the exception, the other one being None. A `Kind` that
            it returns is tried again if its kind is; a `Verdict` if it says so (``retryable``) or
            says when (``retry_after``, which has to be a number of seconds above 0).

    Raises:
        ConfigurationError: it cannot be called with two arguments.

    State: whether a failure was told.
    """

    def __init__(self, classify: Classify) -> None:
        """Check that it can be called."""
        bounds.function(classify, 2, "classify is a function (result, error)")
        self._classify = classify
        self._reported = False

    def __call__(self, result: Any, error: BaseException | None) -> Verdict | None:
        """Return the user's verdict, or None for the usual one."""
        try:
            said: Any = self._classify(result, error)
            if said is None:
                return None
            if isinstance(said, Verdict):
                return self._checked(said)
            if isinstance(said, Kind):
                name = None if error is None else type(error).__name__
                return Verdict(said, retryable=said in RETRYABLE, error=name)
            raise TypeError(
                f"classify returns a Verdict, a Kind or None; got {type(said).__name__}"
            )
        except Exception as failure:  # it must not turn an answer into a failure
            self._tell(failure)
            return None

    def _checked(self, said: Verdict) -> Verdict:
        """Return a verdict that every layer can rely on; who says when says that it is to be."""
        bounds.instance(said.kind, Kind, "Verdict", "a Kind, like Kind.OVERLOADED")
        wrong = [name for name, (sound, _) in _SOUND.items() if not sound(getattr(said, name))]
        nothing = wrong == ["retry_after"] and said.retry_after == 0  # as in a header
        if wrong and not nothing:
            self._tell(ValueError(f"no verdict can have such a {', '.join(wrong)}: left out"))
        changes = {name: _SOUND[name][1] for name in wrong}
        if said.retry_after is not None and "retry_after" not in wrong:
            retryable = changes.get("retryable", said.retryable)
            changes["retryable"] = retryable or said.kind in RETRYABLE
        if all(getattr(said, name) is value for name, value in changes.items()):
            return said
        verdict = copy.copy(said)
        for name, value in changes.items():
            object.__setattr__(verdict, name, value)  # a class of the user's may be frozen
        return verdict

    def _tell(self, failure: Exception) -> None:
        if not self._reported:
            self._reported = True
            logging.getLogger("resilient_infe").error(
                "the classify function failed (told once)", exc_info=failure
            )


def _is_number(said: object) -> bool:
    """Whether a layer can count with it; a whole number may be too large for a float."""
    number = isinstance(said, int | float) and not isinstance(said, bool)
    return number and 0 <= said <= sys.float_info.max  # type: ignore[operator]


def _is_hint(said: object) -> bool:
    return said is None or (_is_number(said) and said != 0)


def _is_usage(said: object) -> bool:
    if not isinstance(said, Usage):
        return said is None
    return all(map(_is_number, (said.prompt_tokens, said.completion_tokens, said.total_tokens)))


def _is_limit(said: object) -> bool:
    if not isinstance(said, Limit) or said.dimension not in get_args(Dimension):
        return False
    stated = (said.limit, said.remaining, said.reset, said.window)
    return all(each is None or _is_number(each) for each in stated)


def _are_limits(said: object) -> bool:
    return isinstance(said, tuple) and all(map(_is_limit, said))


def _is_flag(said: object) -> bool:
    return isinstance(said, bool)


def _is_text(said: object) -> bool:
    return said is None or isinstance(said, str)


def _is_id(said: object) -> bool:
    return said is None or clean_id(said) is not None


def _is_status(said: object) -> bool:
    return said is None or isinstance(said, int)


_SOUND: dict[str, tuple[Callable[[object], bool], Any]] = {
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
"""What layers use of a verdict: how it is known to be sound, and what stands for none."""
