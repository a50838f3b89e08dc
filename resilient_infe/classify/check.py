"""The user's own check of an answer's form, and what becomes of the next request.

A model may answer well and not as it was asked to: prose in place of JSON, a field that is missing.
No server is at fault, so no circuit counts it, nothing waits, and what the answer cost is paid. The
same call may succeed at the next attempt, more so if the request then says what was wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..core import bounds
from ..core.call import Call
from ..core.refused import RefusedAnswers
from ..core.verdict import Kind, Verdict
from ..errors import MalformedAnswer
from .body import decoded
from .table import LONGEST_ANSWER

Check = Callable[[Any], str | bool | None]
"""``check(answer)`` returns what is wrong with an answer, or raises it; None or True if it fits."""

Mend = Callable[[Any, MalformedAnswer], Any]
"""``mend(request, refusal)`` returns the next request; None if it has changed its copy in place."""

LONGEST_COMPLAINT = 2_000
"""Characters of a complaint that are kept: a schema's error may quote the whole answer."""


class Form:
    """Asks the user's `check` of each answer, and `mend` for the request after a refused one.

    Args:
        check: called with the decoded body of a reply, or with what the transport returned. The
            answer fits if it returns None, True or an empty text. A text is the complaint, and so
            is an exception that it raises.
        mend: called with a copy of the request and the `MalformedAnswer`, before another attempt;
            None to send the same request again. If it fails, that is logged once, and the same
            request is sent.

    Raises:
        ConfigurationError: one of them is async, or takes another number of arguments.

    State: whether a failure of `mend` was logged.
    """

    def __init__(self, check: Check, mend: Mend | None = None) -> None:
        bounds.function(check, 1, "check is a function (answer)")
        if mend is not None:
            bounds.function(mend, 2, "mend is a function (request, refusal)")
        self._check, self._mend = check, mend
        self._reported = False

    def refusal_of(self, call: Call[Any], result: Any) -> MalformedAnswer | None:
        """Return why the answer of a call is not of the asked form, or None.

        An open stream is not checked, nor is a reply without a body, nor one to a request that runs
        no model, such as the list of models.
        """
        reply, runs = call.reply, getattr(call.body, "runs_model", None)
        if call.hold is not None or (runs is not None and not runs()):
            return None
        if reply is not None:
            if isinstance(reply.body, bytes):
                reply.body = decoded(reply.body, LONGEST_ANSWER)
            result = reply.body
        if reply is not None and result is None:
            return None
        # No frame on the way of the check's exception keeps the refusal: that would be a cycle.
        return _masked(call, self.refusal(result))

    def refusal(self, answer: Any) -> MalformedAnswer | None:
        """Return why an answer is not of the asked form, or None if it is."""
        try:
            complaint: Any = self._check(answer)
        except Exception as error:  # how most validators say it
            return _made(str(error) or type(error).__name__, answer, error)
        if complaint is None or complaint is True or complaint == "":
            return None
        return _made("check returned False" if complaint is False else str(complaint), answer)

    def renew(self, call: Call[Any], answers: RefusedAnswers, refusal: MalformedAnswer) -> None:
        """Let the next attempt of a call send what `mend` makes of its request.

        The request is the JSON body of an HTTP request, a function's arguments by name, or the
        payload of a transport. A body that is not a JSON object stays as it is.
        """
        body = call.body
        request = call.payload if body is None else body()
        editable = body is None or (isinstance(request, Mapping) and bool(request))
        if self._mend is None or not editable:
            return
        request = _copied(request)
        try:
            mended = self._mend(request, refusal)
            mended = request if mended is None else mended
            if isinstance(request, Mapping):
                bounds.instance(mended, Mapping, "mend", "a mapping back")
            renew = getattr(body, "renew", None)
            if renew is not None:
                renew(mended)
        except Exception as failure:  # a bug in it must not hide what was wrong with the answer
            self._report(failure)
            return
        answers.request = mended
        if body is None:
            call.payload = mended
        elif renew is None:
            call.body = lambda: mended  # what the estimate reads

    def _report(self, failure: Exception) -> None:
        if not self._reported:
            self._reported = True
            logging.getLogger("resilient_infe").error(
                "the mend function failed (reported once)", exc_info=failure
            )


def _made(complaint: str, answer: Any, cause: Exception | None = None) -> MalformedAnswer:
    refusal = MalformedAnswer(complaint[:LONGEST_COMPLAINT], answer)
    refusal.__cause__ = cause
    return refusal


def _masked(call: Call[Any], refusal: MalformedAnswer | None) -> MalformedAnswer | None:
    """Return a refusal that does not quote the API key, which a server may have quoted."""
    hide = getattr(call.state.mask, "error", None)
    if refusal is not None and hide is not None:
        hide(refusal)
    return refusal


def refused(verdict: Verdict, refusal: MalformedAnswer) -> Verdict:
    """Return the verdict on a success whose answer a check refused: what it cost stays."""
    name = type(refusal).__name__
    return replace(verdict, kind=Kind.MALFORMED, retryable=True, error=name)


def _copied(value: Any) -> Any:
    """Return a copy of the dicts and lists of a request, which may be changed in place."""
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value
