"""Responses that no honest server sends: seeded, so that each can be made again."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import zlib
from typing import Any

from loopback import COMPLETION, USAGE, Asked, hang
from streamers import WHOLE, event, word

WHOLE_ONE = COMPLETION | {"usage": USAGE}

STATUSES = [200] * 30 + [201, 204, 206, 304, 302, 400, 401, 402, 404, 408, 409, 413, 422, 425,
            429, 429, 429, 451, 500, 500, 502, 503, 504, 520, 529, 599, 700, 999]  # fmt: skip

NUMBERS = ["0", "7", "-1", "nan", "inf", "1e9", "9" * 40, "", "soon", "\u00e9", "0.001", "1, 2",
           "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "6m0s", "12ms",
           "x" * 4_000]  # fmt: skip

NUMERIC = ["retry-after", "retry-after-ms", "date", "x-ratelimit-limit-requests",
           "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
           "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
           "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset",
           "anthropic-ratelimit-tokens-limit", "ratelimit", "ratelimit-policy"]  # fmt: skip

KINDS = ["application/json"] * 4 + ["text/event-stream"] * 4
KINDS += ["text/html", "text/plain", "", "application/problem+json", "application/x-ndjson", ";;",
          "application/json; charset=nonsense", "multipart/mixed", "TEXT/EVENT-STREAM"]  # fmt: skip

ENCODINGS = ["gzip", "deflate", "br", "zstd", "identity", "x-gzip", "gzip, gzip", "nonsense"]


def _json(draw: random.Random) -> bytes:
    inside: list[Any] = [
        WHOLE_ONE, WHOLE_ONE, COMPLETION | {"usage": {"total_tokens": -5}},
        COMPLETION | {"usage": "none"}, {"choices": None}, {"choices": []}, [], [1], "text", 5,
        None, True, {}, {"error": "no"}, {"error": None}, {"error": []}, {"error": {"code": 5}},
        {"error": {"message": "no", "type": "server_error", "code": "api_error"}},
        {"error": {"code": "rate_limit_exceeded"}}, {"error": {"code": "insufficient_quota"}},
        {"id": "\ud800"}, {"usage": {"prompt_tokens": 10**30}},
    ]  # fmt: skip
    return json.dumps(draw.choice(inside)).encode()


def _events(draw: random.Random) -> bytes:
    odd = [event("[DONE]"), event("{"), event("[]"), event("null"), event('"x"'), b": wait\n\n",
           b"data\n\n", b"\n\n\n", b"id: 1\nretry: x\n\n", b"data: \xff\xfe\n\n", b"\x00\r\r\n",
           event({"error": {"message": "no", "code": "api_error"}}), event({"choices": "x"}),
           event({"choices": [{"delta": None}]}), word(1, "stop"),
           event({"usage": []})]  # fmt: skip
    events = list(WHOLE)
    for _ in range(draw.randrange(4)):
        events.insert(draw.randrange(len(events) + 1), draw.choice(odd))
    return b"".join(events[: draw.randrange(len(events) + 1)])


def _body(draw: random.Random) -> bytes:
    made = [
        _json(draw), _json(draw), _events(draw), _events(draw), b"", draw.randbytes(50),
        b"<html>page</html>", _json(draw)[:-3], b"[" * 5_000, b"x" * 100_000, b"9" * 6_000,
        b"\xef\xbb\xbf" + _json(draw), _json(draw) * 2,
    ]  # fmt: skip
    return draw.choice(made)


def _head(draw: random.Random, body: bytes) -> tuple[bytes, bytes]:
    """Return the head, and the body as the head says, or not quite as it says."""
    lines = [f"HTTP/1.1 {draw.choice(STATUSES)} {draw.choice(['OK', '', 'No'])}"]
    lines += [f"content-type: {draw.choice(KINDS)}"] if draw.random() < 0.95 else []
    names = draw.sample(NUMERIC, draw.randrange(4))
    lines += [f"{name}: {draw.choice(NUMBERS)}" for name in names]
    lines += ["x-should-retry: " + draw.choice(["true", "false", "?"])] * (draw.random() < 0.1)
    lines += [f"x-request-id: {draw.choice(['r1', 'x' * 300, '<b>', ''])}"]
    if draw.random() < 0.25:
        encoding = draw.choice(ENCODINGS)
        lines.append(f"content-encoding: {encoding}")
        if encoding == "gzip" and draw.random() < 0.7:
            body = gzip.compress(body, 1)
        if encoding == "deflate" and draw.random() < 0.7:
            body = zlib.compress(body)
    match draw.randrange(10):
        case 0:
            lines.append(f"content-length: {max(0, len(body) - draw.randrange(1, 20))}")
        case 1:
            lines.append(f"content-length: {len(body) + draw.randrange(1, 20)}")
        case 2:
            lines.append(f"content-length: {draw.choice(['-1', 'x', '', '1, 2', '9' * 30])}")
        case 3 | 4:
            lines.append("transfer-encoding: chunked")
            body = b"%x\r\n%b\r\n" % (len(body), body) + b"0\r\n\r\n" * draw.randrange(2)
        case 5:
            lines.append("transfer-encoding: chunked")  # which it is not
        case 6:
            lines.append("connection: close")
        case _:
            lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", body


def nonsense(seed: str) -> tuple[list[bytes], str]:
    """Return the parts of a response, and how its connection ends."""
    draw = random.Random(seed)
    head, body = _head(draw, _body(draw))
    whole = head + body
    if draw.random() < 0.15:
        whole = whole[: draw.randrange(len(whole) + 1)]
    if draw.random() < 0.05:
        whole = draw.randbytes(draw.randrange(200)) + whole
    cuts = sorted(draw.randrange(len(whole) + 1) for _ in range(draw.randrange(4)))
    edges = [0, *cuts, len(whole)]
    parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
    return parts, draw.choice(["close"] * 6 + ["keep"] * 3 + ["abort"] * 2 + ["hang"])


def nonsense_server(seed: object) -> Any:
    """Return what answers the request for prompt N with the nonsense that seed and N make."""
    tries: dict[str, int] = {}

    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        number = json.loads(asked.body)["messages"][0]["content"]
        tries[number] = tries.get(number, 0) + 1
        parts, end = nonsense(f"{seed}-{number}-{tries[number]}")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if end == "hang":
            await hang(asked, writer)
        if end == "abort":
            writer.transport.abort()
        if end == "close":
            writer.close()

    return respond
