"""docs/howto/openai-agents.md."""

from __future__ import annotations

import openai
from agents import Agent, OpenAIChatCompletionsModel, Runner
from contract import StreamingContract

from resilient_infe import wrap


class TestOpenaiAgents(StreamingContract):
    """The SDK's errors pass through it as they are."""

    page = "openai-agents"
    failed = refused = openai.InternalServerError
    denied = openai.AuthenticationError
    late = openai.APITimeoutError
    broken = openai.APIConnectionError

    async def stream(self, url, stack):
        """Yield the events of a run."""
        async with wrap(openai.AsyncOpenAI(base_url=url, api_key="sk-test"), stack) as client:
            model = OpenAIChatCompletionsModel("infe-pulse", openai_client=client)
            run = Runner.run_streamed(Agent(name="greeter", model=model), "hello")
            async for event in run.stream_events():
                yield event
