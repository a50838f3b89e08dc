"""The stand-in for the Infe API: what the server would answer to a request, at the time `now`.

It has no clock and no socket, and its own random source with a fixed seed: the same requests at the
same instants get the same replies. Two modules make it a server: `shell` in process, and `server`
over HTTP. The same contract tests run against both.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigurationError
from ..rate.estimate import estimate_tokens
from .books import Books
from .latency import Stuck, drawn_latency
from .limits import ServerLimit, Style, make_limit

RetryAfter = Literal["none", "exact", "rounded", "lying"]
"""The hint to a rejected client: none, the exact wait, the wait rounded up to whole seconds, or a
tenth of the wait.
"""

Break = Literal["cut", "reset", "garbage", "html", "slow", "silent"]
"""How a reply breaks: cut half-way, reset, invalid JSON, a gateway's HTML page, sent in ten slow
parts, or never sent; a silent stream stops half-way, and stays open.
"""

HUNG = 1e6
"""Seconds before the reply to a request that hangs."""

TABLE: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "invalid_api_key"),
    402: ("billing_error", "payment_required"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", "api_error"),
    502: ("server_error", "api_error"),
    503: ("server_error", "overloaded_error"),
    529: ("server_error", "overloaded_error"),
}
"""The ``type`` and ``code`` of each error in the API's reference."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request as the server sees it: the decoded body, and two headers."""

    body: Any
    authorization: str | None = None
    client_id: str | None = None


@dataclass(slots=True)
class ModelReply:
    """What to send back.

    Attributes:
        status: the HTTP status.
        headers: response headers, lower case.
        body: a value to send as JSON, or text to send as it is.
        delay: seconds before the first byte.
        chunks: the events of a stream, or None for a plain body.
        chunk_gap: seconds between two events.
        broken: how to break the reply, or None.
    """

    status: int
    headers: dict[str, str]
    body: Any
    delay: float = 0.0
    chunks: list[str] | None = None
    chunk_gap: float = 0.0
    broken: Break | None = None

    def raw(self) -> bytes:
        """Return the body as bytes."""
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@dataclass(slots=True)
class Faults:
    """What goes wrong.

    Attributes:
        rates: the share of requests answered with each status, such as ``{500: 0.02, 502: 0.01}``.
        breaks: the share of replies broken in each way, such as ``{"cut": 0.01}``.
        outages: spans ``(start, end)``, in seconds from the first request, in which every request
            is answered with `outage_status`.
        outage_status: 503 by default; 429 is an outage that looks like a limit.
        hangs: spans, like `outages`, in which no request is answered.
        script: statuses for the next requests, in order; they take precedence over everything else.
        hints: the Retry-After of the statuses in `rates`, in seconds; without one, the model's
            `retry_after` decides.
    """

    rates: Mapping[int, float] = field(default_factory=dict)
    breaks: Mapping[Break, float] = field(default_factory=dict)
    outages: Sequence[tuple[float, float]] = ()
    outage_status: int = 503
    hangs: Sequence[tuple[float, float]] = ()
    script: Sequence[int] = ()
    hints: Mapping[int, float] = field(default_factory=dict)


class InfeModel:
    """The whole state of the stand-in.

    Args:
        requests_per_minute: the limit, or None for no limit.
        tokens_per_minute: the limit, or None for no limit; the cost of an answer is charged when
            its request arrives.
        style: how the limits are applied; ``"bucket"``, a token bucket.
        burst: the size of a bucket, in seconds of the rate; 1.
        concurrency: the most requests in progress at once, or None for no limit.
        capacity: the requests in progress that it can answer at full speed; with more of them,
            each new one takes longer in proportion, even if callers leave; None for any number.
        headers: whether to send ``x-ratelimit-*``; False.
        retry_after: the hint of a 429 and a 503; ``"none"``.
        charge_rejected: whether a rejected request also uses up the limit of requests; False.
        faults: what goes wrong; nothing by default.
        latency: seconds before every reply; 0.05.
        spread: the standard deviation of the logarithm of the latency of an answer; 0.
        seconds_per_token: additional seconds for each token of output; 0.
        output_tokens: the median length of an answer in tokens; lengths are spread from a tenth to
            ten times of it; 20.
        models: the ids that exist.
        api_keys: the keys that are accepted, or None for any key.
        seed: the seed of the random source; 0.

    Attributes:
        faults: what goes wrong; it may be changed while the model is in use.
        latency: seconds before every reply; it may be changed too.
        stuck: the answers that take much longer, or None; it may be changed too.

    State: all of it is here; `books` holds what the server saw.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        style: Style = "bucket",
        burst: float = 1.0,
        concurrency: int | None = None,
        capacity: int | None = None,
        headers: bool = False,
        retry_after: RetryAfter = "none",
        charge_rejected: bool = False,
        faults: Faults | None = None,
        latency: float = 0.05,
        spread: float = 0.0,
        seconds_per_token: float = 0.0,
        output_tokens: int = 20,
        models: Sequence[str] = ("infe-pulse", "infe-titan"),
        api_keys: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.books = Books()
        self.faults = faults or Faults()
        self.models = list(models)
        self._limits: dict[str, ServerLimit] = {}
        if requests_per_minute is not None:
            self._limits["requests"] = make_limit(style, requests_per_minute, 60.0, burst)
        if tokens_per_minute is not None:
            self._limits["tokens"] = make_limit(style, tokens_per_minute, 60.0, burst)
        self._concurrency, self._capacity = concurrency, capacity
        self._send_headers = headers
        self._retry_after = retry_after
        self._charge_rejected = charge_rejected
        self.latency, self._spread = latency, spread
        self.stuck: Stuck | None = None
        self._seconds_per_token = seconds_per_token
        self._output_tokens = output_tokens
        self._api_keys = None if api_keys is None else set(api_keys)
        self._random = random.Random(seed)
        self._script = deque(self.faults.script)
        self._ends: list[float] = []
        self._serial = 0

    def handle(self, request: ModelRequest, now: float) -> ModelReply:
        """Return the reply to a request for a completion that arrives at `now`."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        self.books.arrived(now, len(self._ends) + 1)
        self._serial += 1
        reply = self._decide(request, now)
        reply.headers["x-request-id"] = f"infe-{self._serial:08x}"
        if self._send_headers:
            reply.headers.update(self._rate_headers(now))
        tokens = reply.body["usage"]["total_tokens"] if reply.status == 200 else 0
        if reply.status == 200:
            self._break(reply)
            if reply.delay < HUNG:
                end = now + reply.delay + reply.chunk_gap * len(reply.chunks or ())
                heapq.heappush(self._ends, end)
        # A reply that is broken on the way, or never comes, does not count as an answer.
        unanswered = reply.broken not in (None, "slow") or reply.delay >= HUNG
        status = 0 if unanswered else reply.status
        self.books.replied(status, tokens, request.client_id)
        return reply

    def resize(self, dimension: str, limit: float, now: float) -> None:
        """Keep another limit per minute from now on; what was spent stays spent.

        Args:
            dimension: ``"requests"`` or ``"tokens"``; the model must have a limit on it.
            limit: units per minute, above 0.
            now: the current time.

        Raises:
            ConfigurationError: the model has no limit on it.
        """
        if dimension not in self._limits:
            raise ConfigurationError(
                f"the model has no limit of {dimension}: give {dimension}_per_minute first"
            )
        self._limits[dimension].resize(limit, now)

    def charge(self, tokens: float, now: float) -> None:
        """Charge a request of another user of the account, if the limits let it in."""
        if all(limit.fits(1.0, now) for limit in self._limits.values()):
            for dimension, limit in self._limits.items():
                limit.take(1.0 if dimension == "requests" else tokens, now)

    def list_models(self) -> ModelReply:
        """Return the reply to ``GET /v1/models``."""
        rows = [{"id": name, "object": "model", "owned_by": "infe"} for name in self.models]
        self._serial += 1
        headers = {"x-request-id": f"infe-{self._serial:08x}"}
        return ModelReply(200, headers, {"object": "list", "data": rows})

    def _decide(self, request: ModelRequest, now: float) -> ModelReply:
        if self._script:
            status = self._script.popleft()
            done = status == 200
            return self._complete(request.body, now) if done else self._error(status, "scripted")
        refusal = self._refuse(request) or self._outage(now) or self._over_limit(now)
        if refusal is not None:
            return refusal
        self.books.admit(now)
        draw = self._random.random()
        for status, share in self.faults.rates.items():
            if draw < share:
                return self._error(status, "drawn", hint=self.faults.hints.get(status))
            draw -= share
        return self._complete(request.body, now)

    def _outage(self, now: float) -> ModelReply | None:
        since = now - (self.books.first or 0.0)
        if any(start <= since < end for start, end in self.faults.hangs):
            return self._error(504, "hung", delay=HUNG)
        if any(start <= since < end for start, end in self.faults.outages):
            return self._error(self.faults.outage_status, "outage")
        return None

    def _over_limit(self, now: float) -> ModelReply | None:
        if self._concurrency is not None and len(self._ends) >= self._concurrency:
            return self._error(
                429, "too many requests in progress", code="concurrency_limit_exceeded"
            )
        return self._charge(now)

    def _refuse(self, request: ModelRequest) -> ModelReply | None:
        if self._api_keys is not None:
            key = (request.authorization or "").removeprefix("Bearer ")
            if key not in self._api_keys:
                return self._error(401, "incorrect API key provided")
        body = request.body
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            return self._error(400, "`messages` is missing")
        if body.get("model") not in self.models:
            return self._error(404, f"the model {body.get('model')!r} does not exist")
        return None

    def _charge(self, now: float) -> ModelReply | None:
        """Charge one request, and return a 429 if a limit is used up.

        The tokens are charged in `_complete`, where the length of the answer is known.
        """
        full = [limit for limit in self._limits.values() if not limit.fits(1.0, now)]
        requests = self._limits.get("requests")
        if requests is not None and (not full or self._charge_rejected):
            requests.take(1.0, now)
        waits = [limit.wait(1.0, now) for limit in full]
        return self._error(429, "rate limit exceeded", wait=max(waits)) if waits else None

    def _complete(self, body: Any, now: float) -> ModelReply:
        output = max(1, min(int(self._output_tokens * 10 ** self._random.uniform(-1, 1)), 100_000))
        bound = body.get("max_tokens") if isinstance(body, dict) else None
        output = min(output, bound) if isinstance(bound, int) and bound > 0 else output
        prompt = max(1, int(estimate_tokens({**body, "max_tokens": 1})) - 1)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
        }
        if "tokens" in self._limits:
            self._limits["tokens"].take(prompt + output, now)
        text = " ".join(["word"] * min(output, 50))
        reply_id = f"chatcmpl-{self._serial:08x}"
        message = {"role": "assistant", "content": text}
        content = {
            "id": reply_id,
            "object": "chat.completion",
            "created": int(now),
            "model": body.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }
        latency = drawn_latency(self._random, self.latency, self._spread, self.stuck)
        delay = latency + self._seconds_per_token * output
        if self._capacity is not None:
            delay *= max(1.0, (len(self._ends) + 1) / self._capacity)
        if not body.get("stream"):
            return ModelReply(200, {}, content, delay)
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        chunks = _chunks(reply_id, body.get("model"), text.split(), usage if wants_usage else None)
        gap = self._seconds_per_token * output / len(chunks)
        return ModelReply(200, {}, content, latency, chunks, gap)

    def _break(self, reply: ModelReply) -> None:
        draw = self._random.random()
        for kind, share in self.faults.breaks.items():
            if draw < share:
                reply.broken = kind
                if kind == "html":
                    reply.body, reply.chunks = "<html><body>bad gateway</body></html>", None
                elif kind == "garbage":
                    reply.body, reply.chunks = '{"id": "chatcmpl", "choices": [', None
                elif kind == "silent" and reply.chunks is None:
                    reply.delay = HUNG
                return
            draw -= share

    def _error(
        self,
        status: int,
        message: str,
        *,
        delay: float | None = None,
        wait: float = 1.0,
        code: str | None = None,
        hint: float | None = None,
    ) -> ModelReply:
        kind, usual = TABLE.get(status, ("server_error", "api_error"))
        code = usual if code is None else code
        body = {"error": {"message": message, "type": kind, "code": code}}
        headers = self._hint(wait) if status in (429, 503) else {}
        if hint is not None:
            headers = {"retry-after": f"{hint:g}"}
        return ModelReply(status, headers, body, self.latency if delay is None else delay)

    def _hint(self, wait: float) -> dict[str, str]:
        match self._retry_after:
            case "exact":
                return {"retry-after": f"{wait:.6f}", "retry-after-ms": f"{wait * 1000:.3f}"}
            case "rounded":
                return {"retry-after": str(int(-(-wait // 1)))}
            case "lying":
                return {"retry-after": f"{wait / 10:.6f}"}
        return {}

    def _rate_headers(self, now: float) -> dict[str, str]:
        headers = {}
        for name, limit in self._limits.items():
            headers[f"x-ratelimit-limit-{name}"] = f"{limit.limit:.0f}"
            headers[f"x-ratelimit-remaining-{name}"] = f"{int(limit.remaining(now))}"
            headers[f"x-ratelimit-reset-{name}"] = f"{limit.reset(now):.3f}s"
        return headers


def _chunks(reply_id: str, model: Any, words: list[str], usage: dict[str, int] | None) -> list[str]:
    """Return the ``data`` of each event of a stream."""

    def event(delta: dict[str, str], finish: str | None, **extra: Any) -> str:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        head = {"id": reply_id, "object": "chat.completion.chunk", "model": model}
        return json.dumps({**head, "choices": choices, **extra})

    events = [event({"content": f"{word} "}, None) for word in words]
    events.append(event({}, "stop"))
    if usage is not None:
        head = {"id": reply_id, "object": "chat.completion.chunk", "model": model}
        events.append(json.dumps({**head, "choices": [], "usage": usage}))
    return [*events, "[DONE]"]
