"""Functions of the user's own that a layer asks: none may turn an answer into a failure."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError
from ..policies.classify import RETRYABLE
from ..policies.estimate import estimate_tokens, honest_count
from ..verdict import Kind, Verdict

Classify = Callable[[Any, BaseException | None], Verdict | Kind | None]
"""``classify(result, error)``: a verdict, or just a kind, or None for the usual reading."""


class Rule:
    """Asks the user's ``classify``; one that raises is told about once and then says nothing.

    Args:
        classify: called with the result or the exception, the other one being None.

    Raises:
        ConfigurationError: it cannot be called.

    State: whether a failure was told.
    """

    def __init__(self, classify: Classify) -> None:
        """Check that it can be called."""
        _check(classify, "classify is a function (result, error)")
        self._classify = classify
        self._reported = False

    def __call__(self, result: Any, error: BaseException | None) -> Verdict | None:
        """Return the user's verdict, or None for the usual one."""
        try:
            verdict: Any = self._classify(result, error)
        except Exception as failure:  # it must not turn an answer into a failure
            if not self._reported:
                self._reported = True
                logging.getLogger("resilient_infe").error(
                    "the classify function failed (told once)", exc_info=failure
                )
            return None
        if isinstance(verdict, Kind):
            name = None if error is None else type(error).__name__
            return Verdict(verdict, retryable=verdict in RETRYABLE, error=name)
        return verdict if isinstance(verdict, Verdict) else None


class TokenCount:
    """Asks the user's token counter; one that raises or gives no number is told about once.

    Args:
        estimate: called with a request's body; returns its tokens, from 0.

    Raises:
        ConfigurationError: it cannot be called.

    State: whether a failure was told.
    """

    def __init__(self, estimate: Callable[[Any], float]) -> None:
        """Check that it can be called."""
        _check(estimate, "estimate is a function of the body")
        self._estimate = estimate
        self._reported = False

    def __call__(self, body: Any) -> float:
        """Return the tokens by the user's count, or else by the usual estimate."""
        failure: Exception | None = None
        try:
            counted = honest_count(self._estimate(body))
        except Exception as error:  # a counter must not lose a call
            counted, failure = None, error
        if counted is not None:
            return counted
        if not self._reported:
            self._reported = True
            logging.getLogger("resilient_infe").error(
                "the estimate function gave no number of tokens (told once)", exc_info=failure
            )
        return estimate_tokens(body)


def _check(function: object, what: str) -> None:
    if not callable(function):
        raise ConfigurationError(f"{what}; got {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    ):
        raise ConfigurationError(f"{what} that answers at once, not an async one")
