"""Decides, once per attempt, what its result or exception meant.

No other layer reads a status, a header or an exception class: retry, circuit and rate limit all
react to the one verdict that this layer puts on the call.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ..aio import is_cancellation, wall_time
from ..core import bounds
from ..core.call import Call, CallState, InFlight, Reply
from ..core.guard import Guard
from ..core.refused import RefusedAnswers
from ..core.rejection import is_bare
from ..core.verdict import OK, SUCCESS, Kind, Usage, Verdict, succeeded, without_key
from ..errors import ConfigurationError, MalformedAnswer, SlotTaken
from ..events import AttemptFinished
from .body import decoded
from .check import Check, Form, Mend, refused
from .error_body import is_error, stated_in
from .foreign import completion_in, reply_of_exception, reply_of_result
from .rule import Classify, Rule
from .rules import Rules, Source, with_own
from .table import LONGEST_ANSWER, classify_exception, classify_reply
from .usage import usage_of

LET_IN = frozenset((Kind.OK, Kind.SERVER_ERROR, Kind.INVALID, Kind.NOT_FOUND, Kind.MALFORMED))
"""Kinds of answers that a server gives to a request that it let in."""

MOST_CHECKED = 10
"""The highest `check_attempts`; the schedule of `Retry` has the same bound."""

_MALFORMED = Kind.MALFORMED

_PLAIN = frozenset((type(None), str, bytes, int, float, bool, list, tuple))
"""Types of results in which there is nothing to read."""


class ErrorClassifier(Guard[float]):
    """Sets ``call.verdict`` from the reply, the result or the exception.

    Args:
        classify: a rule of your own that is asked first: ``classify(result, error)``, with one of
            the two None. It returns a `Verdict`, a `Kind`, or None for the usual table. If it
            raises or returns anything else, that is logged once, and the usual table applies. The
            result is the decoded body of a success where the adapter has it, through a wrapped
            client too; else what the transport returned.
        check: says whether a success has the form that was asked for: ``check(answer)`` gets what
            `classify` gets, and returns or raises the complaint. It returns None or True if the
            answer fits. Open streams, and answers of requests that run no model, are not checked.
        mend: what to change in the request after that: ``mend(request, refusal)`` gets a copy of
            the payload, of the JSON body or of a function's arguments by name, and the
            `MalformedAnswer`. None sends the same request again.
        check_attempts: the attempts after an answer of the wrong form, from 0 to 10; 2, because a
            model that fails three times is asked for what it cannot do. They use up neither
            ``max_attempts`` of `Retry` nor its budget.
        rules: what the codes of your vendor or gateway mean: the path of a TOML or JSON file, or a
            list of rows. They come before the rows of the package. None for those alone.

    Raises:
        ConfigurationError: a function takes another number of arguments or is async, `mend` has no
            `check`, `check_attempts` is out of range, or a row of `rules` is wrong.
        MalformedAnswer: from a call whose last answer was refused by `check`.

    State: whether a failure of `classify` or `mend` was logged.
    """

    def __init__(
        self,
        classify: Classify | None = None,
        *,
        check: Check | None = None,
        mend: Mend | None = None,
        check_attempts: int = 2,
        rules: Source | None = None,
    ) -> None:
        if mend is not None and check is None:
            raise ConfigurationError("mend= needs check=, which refuses answers")
        bounds.whole(check_attempts, 0, "check_attempts")
        bounds.between(check_attempts, 0, MOST_CHECKED, "check_attempts")
        self._rule = None if classify is None else Rule(classify)
        self._form = None if check is None else Form(check, mend)
        self.check_attempts = check_attempts
        self._rules = None if rules is None else with_own(rules)

    def enter(self, call: Call[Any]) -> float:
        """Count the attempt as sent. Return the current time, or 0 without a listener.

        Raises:
            SlotTaken: while the call waited for the rate limit, the slots were narrowed.
        """
        state = call.state
        crowd = state.crowd
        if (
            crowd is not None
            and (crowd.limit is not None or crowd.in_flight >= crowd.most)
            and _is_taken(state, crowd)
        ):
            raise call.refuse(SlotTaken("fewer slots are left than when this call got its own"))
        if state.on_send is not None:
            state.on_send(call)
            state.on_send = None
        # A layer that calls on more than once in one slot is counted once: its last attempt ended.
        if crowd is not None and state.others < 0:
            state.others = crowd.sent()
        call.sends += 1
        return 0.0 if call.emit is None else call.runtime.now()

    def leave(self, call: Call[Any], held: float, result: Any, error: BaseException | None) -> None:
        """Set the verdict on the attempt, unless an adapter has already set one.

        Raises:
            MalformedAnswer: the answer is not of the form that was asked for.
        """
        verdict = call.verdict
        if verdict is None:
            verdict = call.verdict = self._judged(call, result, error)
        refusal: MalformedAnswer | None = None
        if self._form is not None and error is None and verdict.kind is SUCCESS:
            refusal = self._form.refusal_of(call, result)
        if refusal is not None:
            verdict = refused(verdict, refusal)
        if verdict.kind is _MALFORMED:
            verdict = call.verdict = self._count(call, verdict, refusal)
        crowd = call.state.crowd
        if crowd is not None and (verdict.kind is not SUCCESS or call.state.others > crowd.proven):
            _compare(call, crowd, verdict)
        if verdict.request_id is not None:
            call.server_request_ids += (verdict.request_id,)
        if call.emit is not None:
            if call.hold is None or error is not None:
                _finish(call, held)
            else:
                call.hold.on_close(partial(_finish, call, held))
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # a frame that refers to what it raises is a cycle

    def describe(self) -> str:
        """Return as text which rules apply."""
        own = [("your own rule", self._rule), ("rows of your own", self._rules)]
        first = " and ".join(name for name, given in own if given is not None)
        more = self.check_attempts
        check = f"; answers are checked, {more} more attempts" if self._form is not None else ""
        return "the Infe API's table" + (f", after {first}" if first else "") + check

    def _of_exception(self, call: Call[Any], error: BaseException) -> Verdict:
        # There are four cases:
        # 1. A cancellation. If the deadline has passed, its timer made it: the server was too slow,
        #    so it is a timeout. Else the caller cancelled.
        if is_cancellation(error):
            late = call.deadline is not None and call.runtime.now() >= call.deadline - 1e-6
            kind = Kind.TIMEOUT if late else Kind.CANCELLED
            return Verdict(kind, retryable=late, error=type(error).__name__)
        # 2. The user's rule gives a verdict.
        own = None if self._rule is None else self._rule(None, error)
        if own is not None:
            return own
        # 3. There is no reply: the class of the exception decides.
        reply = call.reply or reply_of_exception(error)
        if reply is None:
            return classify_exception(error)
        # 4. There is a reply: it decides. If it announced a success, its body broke later: the
        #    exception gives the kind, and the status and headers stay valid.
        verdict = _of_reply(reply, self._rules)
        if verdict.kind is not SUCCESS:
            return verdict
        return replace(
            classify_exception(error),
            status=verdict.status,
            request_id=verdict.request_id,
            limits=verdict.limits,
        )

    def _judged(self, call: Call[Any], result: Any, error: BaseException | None) -> Verdict:
        """Return the verdict on an attempt on which an adapter has not set one."""
        # The first of these that exists decides: the exception, the user's rule, the adapter's
        # reply, the result.
        if error is not None:
            verdict = self._of_exception(call, error)
            if verdict.error is None:  # events and logs need the name of what was raised
                verdict = replace(verdict, error=type(error).__name__)
        elif self._rule is not None:
            verdict = self._by_rule(call, result)
        elif call.reply is not None:
            verdict = _of_reply(call.reply, self._rules)
        else:
            verdict = _of_result(result, self._rules)
        mask = call.state.mask
        return verdict if mask is None else without_key(verdict, mask)

    def _count(self, call: Call[Any], verdict: Verdict, refusal: MalformedAnswer | None) -> Verdict:
        """Count an answer of the wrong form, and return the verdict on it.

        It is final if the call has had enough of them; else the next request is made.
        """
        answers = call.state.refused = call.state.refused or RefusedAnswers()
        if answers.note(verdict.usage) > self.check_attempts:
            return replace(verdict, retryable=False)
        if refusal is not None and self._form is not None:
            self._form.renew(call, answers, refusal)
        return verdict

    def _by_rule(self, call: Call[Any], result: Any) -> Verdict:
        reply = call.reply
        if reply is not None and 200 <= reply.status < 300 and isinstance(reply.body, bytes):
            content = decoded(reply.body, LONGEST_ANSWER)
            if content is not None:  # decoded once, for the table too
                reply.body = result = content
        own = None if self._rule is None else self._rule(result, None)
        if own is not None:
            return own
        if reply is None:
            return _of_result(result, self._rules)
        return _of_reply(reply, self._rules)


def _is_taken(state: CallState, crowd: InFlight) -> bool:
    """Whether others fill the slots by now, and the call can go back to the queue for one."""
    return crowd.full and state.requeues and state.others < 0


def _compare(call: Call[Any], crowd: InFlight, verdict: Verdict) -> None:
    """Compare an answer with what was in flight, which may be why it is a refusal."""
    refused = is_bare(verdict)
    if not refused and verdict.kind not in LET_IN:
        return
    # A 429 without a code may be a proxy's, and a wrong pace is slow to be unlearned.
    excuse = verdict.kind is Kind.RATE_LIMITED and verdict.code is None
    others, again = call.state.others, call.sends > 1
    if crowd.answered(others, call.runtime.now(), refused=refused, excuse=excuse, again=again):
        call.verdict = replace(verdict, crowded=True)


def _of_reply(reply: Reply, rules: Rules | None) -> Verdict:
    # An adapter's own verdict is by the rules of the package. That on a success without a readable
    # body, such as a decompression bomb, is not by rules, and holds whatever they are.
    unreadable = reply.body is None and reply.status in range(200, 300)
    if reply.verdict is not None and (rules is None or unreadable):
        return reply.verdict
    return classify_reply(
        reply.status,
        reply.headers,
        reply.body,
        wall_time(),
        completion=reply.completion,
        rules=rules,
    )


def _of_result(result: Any, rules: Rules | None) -> Verdict:
    if isinstance(result, dict):
        # A plain function may use a field `error` for itself: outside of a completion it needs a
        # `code` or a `type` too.
        if is_error(result) if "choices" in result else _is_coded(result.get("error")):
            return classify_reply(200, {}, result, rules=rules)
    elif type(result) in _PLAIN:
        return OK
    elif (reply := reply_of_result(result)) is not None:
        return _of_reply(reply, rules)
    elif (content := completion_in(result)) is not None:
        return classify_reply(200, {}, content, completion=True, rules=rules)
    usage = usage_of(result)
    return OK if usage is None else succeeded(usage)


def _is_coded(error: Any) -> bool:
    stated = stated_in({"error": error}) if error else None
    return stated is not None and bool(stated.names or stated.status)


def _finish(call: Call[Any], sent_at: float, usage: Usage | None = None) -> None:
    """Add up the time of an attempt that has ended, and report it if a listener wants that."""
    sent_for = call.runtime.now() - sent_at
    call.state.sent_for += sent_for
    emit, verdict = call.emit, call.verdict
    if emit is None or verdict is None or not emit.routine:
        return
    emit(
        AttemptFinished(  # in the order of its fields: keywords would double the cost of an event
            call.request_id,
            call.partition,
            call.attempt,
            verdict.kind,
            verdict.status,
            verdict.code,
            verdict.error,
            verdict.retry_after,
            verdict.advice,
            verdict.request_id,
            usage or verdict.usage,
            sent_for,
        )
    )
