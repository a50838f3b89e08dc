"""docs/howto/instructor.md."""

from __future__ import annotations

import json

import openai
import pytest
from contract import Contract, quick
from instructor.core import InstructorRetryException

from resilient_infe import Deadline, ErrorClassifier, Stack
from resilient_infe.testing import Faults, InfeModel, ModelReply, ModelRequest


class Answering(InfeModel):
    """Answers with the object that the page asks for, but for the first `misfits` times."""

    misfits = 0

    def handle(self, request: ModelRequest, now: float) -> ModelReply:
        """Put the answer's text into an object."""
        reply = super().handle(request, now)
        if reply.status == 200 and self.books.answered > self.misfits:
            message = reply.body["choices"][0]["message"]
            message["content"] = json.dumps({"text": message["content"]})
        return reply


class TestInstructor(Contract):
    """Every error of the SDK is the cause of one of instructor's."""

    page = "instructor"
    model = Answering
    failed = denied = refused = late = InstructorRetryException

    @pytest.mark.parametrize(
        ("status", "cause"),
        [(500, openai.InternalServerError), (401, openai.AuthenticationError)],
    )
    def test_the_cause_is_the_sdks_error(self, status, cause):
        """What happened is told by the type of the cause."""
        outcome = self.ask(quick(max_attempts=1), faults=Faults(script=[status]))
        assert isinstance(outcome.last.__cause__, cause)

    def test_the_cause_of_a_deadline_is_the_sdks_timeout(self):
        """A call that was cut is told from one that failed."""
        outcome = self.ask(Stack(Deadline(0.2), ErrorClassifier()), latency=0.6)
        assert isinstance(outcome.last.__cause__, openai.APITimeoutError)

    def test_each_question_is_a_call_of_its_own(self, monkeypatch):
        """An answer that does not fit is asked for anew, and each time the stack decides."""
        monkeypatch.setattr(Answering, "misfits", 2)
        outcome = self.ask()
        assert outcome.last.startswith("word")
        assert outcome.books.sends == outcome.stack.statistics().calls == 3
