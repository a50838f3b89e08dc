"""A server in process for clients of the OpenAI SDK, and a stack with steady waits."""

from __future__ import annotations

import httpx2
import openai
from loopback import ASK, COMPLETION, KEY

from resilient_infe import ErrorClassifier, ExponentialBackoff, Retry, Stack

DOWN = (503, {"error": {"message": "down", "type": "t", "code": "c"}}, {})
GOOD = (200, COMPLETION, {})


class Server:
    """Answers in process with a script, whose last entry repeats; remembers what it was asked."""

    def __init__(self, *script):
        """Answer with these: a reply, an exception, or a function of the request."""
        self.script, self.asked = list(script), []

    async def __call__(self, request):
        """Answer one request."""
        self.asked.append(request)
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(found, Exception):
            raise found
        status, body, headers = found(request) if callable(found) else found
        return httpx2.Response(status, json=body, headers=headers)

    def client(self, cls=openai.AsyncOpenAI, **options):
        """Return an SDK client of this server."""
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        if cls is not openai.AsyncAzureOpenAI:
            options = {"api_key": KEY, "base_url": "http://t/v1"} | options
        client = cls(**options, http_client=http)
        client._platform = "Linux"  # else the SDK asks for it in a thread
        return client

    def sent(self, name):
        """Return a header of each request."""
        return [request.headers.get(name) for request in self.asked]


def steady(*layers, attempts=3, **options):
    """Return a stack whose retries wait a second each."""
    backoff = ExponentialBackoff(1.0, 1.0, 1.0, jitter="none")
    return Stack(Retry(attempts, backoff), *layers, ErrorClassifier(), **options)


def ask(client, **more):
    """Ask for a completion."""
    return client.chat.completions.create(**ASK | more)
