"""The stand-in with routes that other clients ask for, and with a memory for headers."""

from __future__ import annotations

from aiohttp import web

from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer


class AzureServer(InfeServer):
    """Serves chat completions where Azure has them."""

    def __init__(self, model: InfeModel) -> None:
        """Add the route."""
        super().__init__(model)
        path = "/openai/deployments/{deployment}/chat/completions"
        self._application.router.add_post(path, self._complete)


class RichServer(InfeServer):
    """Serves embeddings too, and remembers the headers of the last completion's request."""

    def __init__(self, model: InfeModel) -> None:
        """Add the route."""
        super().__init__(model)
        self.headers: dict[str, str] = {}
        self._application.router.add_post("/v1/embeddings", self._embed)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        return await super()._complete(request)

    async def _embed(self, request: web.Request) -> web.Response:
        body = await request.json()
        row = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        answer = {"object": "list", "data": [row], "model": body["model"], "usage": usage}
        return web.json_response(answer)
