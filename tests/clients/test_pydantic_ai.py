"""docs/howto/pydantic-ai.md."""

from __future__ import annotations

from contract import StreamingContract
from openai import AsyncOpenAI
from pydantic_ai import Agent, exceptions
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from resilient_infe import wrap


class TestPydanticAi(StreamingContract):
    """Its errors are made from the SDK's, which stay as their causes."""

    page = "pydantic-ai"
    failed = exceptions.ModelServerError
    denied = exceptions.ModelAuthenticationError
    refused = exceptions.ModelUnavailableError
    late = exceptions.ModelTimeoutError
    broken = exceptions.ModelConnectionError

    async def stream(self, url, stack):
        """Yield the text as it comes."""
        async with wrap(AsyncOpenAI(base_url=url, api_key="sk-test"), stack) as client:
            model = OpenAIChatModel("infe-pulse", provider=OpenAIProvider(openai_client=client))
            async with Agent(model).run_stream("hello") as result:
                async for text in result.stream_text():
                    yield text
