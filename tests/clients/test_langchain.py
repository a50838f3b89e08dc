"""docs/howto/langchain-openai.md."""

from __future__ import annotations

import openai
import pytest
from contract import NOTE, StreamingContract, block_of, quick
from langchain_openai import ChatOpenAI

from resilient_infe import wrap
from resilient_infe.errors import NestedRetriesWarning
from resilient_infe.testing import Faults


class TestLangchain(StreamingContract):
    """Its errors derive from the SDK's."""

    page = "langchain-openai"
    failed = refused = openai.InternalServerError
    denied = openai.AuthenticationError
    late = openai.APITimeoutError
    broken = openai.APIConnectionError
    noted = False

    async def stream(self, url, stack):
        """Yield the chunks of a message."""
        async with wrap(openai.DefaultAsyncHttpxClient(), stack) as http:
            chat = ChatOpenAI(
                model="infe-pulse",
                base_url=url,
                api_key="sk-test",
                http_async_client=http,
                max_retries=0,
            )
            async for chunk in chat.astream("hello"):
                yield chunk

    def test_the_line_about_the_attempts_is_on_the_response(self):
        """Without a note, the same line is found where the page says."""
        outcome = self.ask(quick(), faults=Faults(rates={500: 1.0}))
        line = outcome.last.response.extensions["resilient_infe"]
        assert line.startswith(f"{NOTE}3 attempts")

    def test_retries_above_the_stack_are_noticed(self):
        """Without max_retries=0 the SDK tries again, and a warning says what to set."""
        code = block_of(self.page).replace("max_retries=0,", "")
        with pytest.warns(NestedRetriesWarning, match="max_retries=0"):
            outcome = self.ask(
                quick(max_attempts=1), code=code, faults=Faults(script=[429]), retry_after="lying"
            )
        assert outcome.books.sends == 2
