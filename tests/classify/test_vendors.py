"""Replies as providers and gateways document them: each is read as its page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resilient_infe.classify.table import classify_reply

WALL = 1_796_006_400.0
"""2026-11-30 02:40:00 UTC: when the replies with an instant in them were sent."""

REPLIES = [
    json.loads(line) for line in Path(__file__).with_name("replies.jsonl").read_text().splitlines()
]

ONLY_THE_MESSAGE_SAYS = {
    # https://docs.x.ai/docs/key-information/debugging: "code" is a sentence too
    "xai 403 no credits": "forbidden",
    # https://lmstudio.ai/docs/developer/openai-compat: a text, and nothing else
    "lmstudio 200 unexpected endpoint": "transient",
    # https://docs.x.ai/docs/key-information/debugging
    "xai 429 no credits": "rate_limited",
    # https://docs.cohere.com/docs/rate-limits
    "cohere 429 trial calls of the month": "rate_limited",
}
"""Replies that only their message tells apart, and what they are read as."""


def read(reply):
    """Return the verdict on a reply."""
    return classify_reply(reply["status"], reply["headers"], reply["body"].encode(), WALL)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda each: each["name"])
def test_a_reply_is_read_as_documented(reply):
    """Its kind, whether it is tried again, and when."""
    verdict = read(reply)
    if reply["name"] in ONLY_THE_MESSAGE_SAYS:
        assert verdict.kind == ONLY_THE_MESSAGE_SAYS[reply["name"]]
        return
    assert verdict.kind in reply["kinds"]
    assert verdict.retryable == (reply["kinds"][0] in AGAIN)
    if reply.get("hint") is not None:
        assert verdict.retry_after == pytest.approx(reply["hint"], abs=0.02)
    if reply.get("limits") is not None:
        stated = [[each.dimension, each.limit, each.window] for each in verdict.limits]
        assert stated == reply["limits"]
    if reply.get("id") is not None:
        assert verdict.request_id == reply["id"]


AGAIN = ("rate_limited", "overloaded", "server_error", "transient", "timeout")
"""The kinds that are tried again."""


@pytest.mark.parametrize("reply", REPLIES, ids=lambda each: each["name"])
def test_no_message_of_a_reply_decides(reply):
    """Another text in the place of each message changes nothing."""
    try:
        body = json.loads(reply["body"])
    except ValueError:
        return
    changed = {**reply, "body": json.dumps(_without_messages(body))}
    verdict, other = read(reply), read(changed)
    assert (verdict.kind, verdict.retry_after) == (other.kind, other.retry_after)


def _without_messages(content):
    if isinstance(content, list):
        return [_without_messages(each) for each in content]
    if not isinstance(content, dict):
        return content
    return {
        name: "other words"
        if name in TEXTS and isinstance(value, str)
        else _without_messages(value)
        for name, value in content.items()
    }


TEXTS = {"message", "msg", "error_msg", "status_msg", "Message", "raw"}
"""The names of the fields that hold a message."""
