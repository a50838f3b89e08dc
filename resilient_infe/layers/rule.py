"""Functions of the user's own that a layer asks: none may turn an answer into a failure."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..errors import ConfigurationError
from ..policies import bounds
from ..policies.classify import RETRYABLE
from ..policies.estimate import estimate_tokens, honest_count
from ..verdict import Kind, Verdict

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
        _check(classify, "classify is a function (result, error)", 2)
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
        hint = said.retry_after
        if hint is None:
            return said
        try:
            bounds.positive(hint, "retry_after")
        except ConfigurationError as failure:
            self._tell(failure)
            hint = None
        again = said.retryable or said.kind in RETRYABLE
        if (again, hint) == (said.retryable, said.retry_after):
            return said
        return replace(said, retryable=again, retry_after=hint)

    def _tell(self, failure: Exception) -> None:
        if not self._reported:
            self._reported = True
            logging.getLogger("resilient_infe").error(
                "the classify function failed (told once)", exc_info=failure
            )


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
        _check(estimate, "estimate is a function of the body", 1)
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


def _check(function: object, what: str, arguments: int) -> None:
    if not callable(function):
        raise ConfigurationError(f"{what}; got {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    ):
        raise ConfigurationError(f"{what} that answers at once, not an async one")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of one written in C
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        raise ConfigurationError(f"{what}; {function!r} does not take that: {error}") from None
