"""docs/howto/ragas.md."""

from __future__ import annotations

import json

import openai
import pytest
from contract import Contract, quick
from instructor.core import InstructorRetryException

from resilient_infe.testing import Faults, InfeModel, ModelReply, ModelRequest


class Answering(InfeModel):
    """Answers with the object that the page asks for."""

    def handle(self, request: ModelRequest, now: float) -> ModelReply:
        """Put the answer's text into an object."""
        reply = super().handle(request, now)
        if reply.status == 200:
            message = reply.body["choices"][0]["message"]
            message["content"] = json.dumps({"text": message["content"]})
        return reply


class TestRagas(Contract):
    """Every error of the SDK is the cause of one of instructor's, which asks for ragas."""

    page = "ragas"
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
