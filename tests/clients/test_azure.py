"""docs/howto/azure-openai.md, with openai 3; test_openai2.py runs it with openai 2."""

from __future__ import annotations

import asyncio
from itertools import count

import openai
from contract import Contract
from stand_ins import AzureServer

from resilient_infe import presets, wrap
from resilient_infe.testing import InfeModel

MESSAGES = [{"role": "user", "content": "hello"}]


class TestAzure(Contract):
    """Azure's client is the SDK's, with another URL and another header for the key."""

    page = "azure-openai"
    versioned = False
    server = AzureServer
    failed = refused = openai.InternalServerError
    denied = openai.AuthenticationError
    late = openai.APITimeoutError

    def test_a_token_that_is_renewed_is_one_key(self):
        """The type is kept, and the partition is the model, whatever the token."""
        serial, stack = count(), presets.service()

        async def renewed():
            return f"eyJhbGciOiJub25lIn0.e{next(serial)}.x"

        async def main():
            async with AzureServer(InfeModel(latency=0.0)).running() as url:
                sdk = openai.AsyncAzureOpenAI(
                    azure_endpoint=url.removesuffix("/v1"),
                    azure_ad_token_provider=renewed,
                    api_version="2024-10-21",
                )
                async with wrap(sdk, stack) as client:
                    assert type(client) is openai.AsyncAzureOpenAI
                    for _ in range(2):
                        await client.chat.completions.create(model="infe-pulse", messages=MESSAGES)

        asyncio.run(main())
        assert next(serial) > 1
        assert list(stack.statistics().circuits) == ["infe-pulse"]
