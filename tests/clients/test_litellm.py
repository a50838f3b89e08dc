"""docs/howto/litellm.md."""

from __future__ import annotations

import litellm
import pytest
from contract import StreamingContract, block_of, quick
from openai import AsyncOpenAI

from resilient_infe import wrap
from resilient_infe.errors import NestedRetriesWarning
from resilient_infe.testing import Faults

litellm.suppress_debug_info = True  # it prints advice with every error


class TestLitellm(StreamingContract):
    """Its errors derive from the SDK's, but do not keep what caused them."""

    page = "litellm"
    failed = litellm.InternalServerError
    denied = litellm.AuthenticationError
    refused = litellm.ServiceUnavailableError
    late = litellm.Timeout
    broken = litellm.ServiceUnavailableError
    noted = False

    async def stream(self, url, stack):
        """Yield the chunks of a completion."""
        async with wrap(AsyncOpenAI(base_url=url, api_key="sk-test"), stack) as client:
            chunks = await litellm.acompletion(
                model="openai/infe-pulse",
                messages=[{"role": "user", "content": "hello"}],
                client=client,
                max_retries=0,
                stream=True,
            )
            async for chunk in chunks:
                yield chunk

    def test_retries_that_are_turned_on_again_stay_off(self):
        """Without max_retries=0 litellm turns the client's retries on again; they stay off."""
        code = block_of(self.page).replace("max_retries=0,", "")
        with pytest.warns(NestedRetriesWarning, match="stay off"):
            outcome = self.ask(quick(max_attempts=3), code=code, faults=Faults(rates={500: 1.0}))
        assert outcome.books.sends == 3
