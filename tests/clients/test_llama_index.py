"""docs/howto/llama-index.md."""

from __future__ import annotations

import httpx
import openai
from contract import NOTE, StreamingContract, block_of, notes, quick
from llama_index.llms.openai_like import OpenAILike

from resilient_infe import wrap
from resilient_infe.testing import Faults


class TestLlamaIndex(StreamingContract):
    """The SDK's errors pass through it as they are."""

    page = "llama-index"
    failed = refused = openai.InternalServerError
    denied = openai.AuthenticationError
    late = openai.APITimeoutError
    broken = httpx.RemoteProtocolError
    noted = False

    async def stream(self, url, stack):
        """Yield the pieces of a completion."""
        async with wrap(openai.DefaultAsyncHttpxClient(), stack) as http:
            llm = OpenAILike(
                model="infe-pulse",
                api_base=url,
                api_key="sk-test",
                is_chat_model=True,
                async_http_client=http,
                max_retries=0,
            )
            async for piece in await llm.astream_complete("hello"):
                yield piece

    def test_the_line_about_the_attempts_is_on_the_response(self):
        """Without a note, the same line is found where the page says."""
        outcome = self.ask(quick(), faults=Faults(rates={500: 1.0}))
        line = outcome.last.response.extensions["resilient_infe"]
        assert line.startswith(f"{NOTE}3 attempts")

    def test_the_sdks_client_may_be_given_instead(self):
        """With async_openai_client= the errors have the note."""
        code = (
            block_of(self.page)
            .replace("DefaultAsyncHttpxClient()", "AsyncOpenAI(base_url=base_url, api_key=api_key)")
            .replace("DefaultAsyncHttpxClient", "AsyncOpenAI")
            .replace("async_http_client", "async_openai_client")
        )
        outcome = self.ask(quick(), code=code, faults=Faults(rates={500: 1.0}))
        assert outcome.books.sends == 3
        [note] = notes(outcome.last)
        assert note.startswith(f"{NOTE}3 attempts")
