"""The estimate of a request's tokens: from its characters and the output it asks for."""

import base64
import math
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe.rate.estimate import (
    CHARACTERS_PER_TOKEN,
    EXPECTED_OUTPUT,
    estimate_tokens,
)
from resilient_infe.rate.media import IMAGE_CHARACTERS

json_like = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(), st.text(max_size=20)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_a_chat_request_counts_its_characters_and_its_bound():
    """Four characters a token, and as much output as the request allows."""
    body = {"messages": [{"role": "user", "content": "x" * 396}], "max_tokens": 50}
    assert estimate_tokens(body) == (396 + 4) / CHARACTERS_PER_TOKEN + 50


def test_without_a_bound_some_output_is_expected():
    """A request that sets no bound is charged the usual output."""
    assert estimate_tokens({"prompt": "x" * 40}) == 10 + EXPECTED_OUTPUT


def test_embeddings_have_no_output():
    """Only the input counts where nothing is generated."""
    assert estimate_tokens({"input": ["x" * 40, "y" * 40]}) == 20


def test_the_newer_bound_counts_too():
    """`max_completion_tokens` is a bound like `max_tokens`."""
    assert estimate_tokens({"prompt": "abcd", "max_completion_tokens": 7}) == 8


@pytest.mark.parametrize("bound", [0, -5, None, "many", 5.5, math.nan, [], {}])
def test_a_bound_that_is_none_is_not_believed(bound):
    """A bound that is no positive whole number leaves the usual output."""
    assert estimate_tokens({"prompt": "abcd", "max_tokens": bound}) == 1 + EXPECTED_OUTPUT


def test_an_inline_image_does_not_count_by_its_size():
    """A megabyte of base64 costs what an image costs."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
    body = {"messages": [{"content": [part]}], "max_tokens": 1}
    assert estimate_tokens(body) == (IMAGE_CHARACTERS + 9) / CHARACTERS_PER_TOKEN + 1


@pytest.mark.parametrize(
    "payload", [None, 5, "text", b"bytes", [], [1], (), {}, {"messages": None}, {"messages": 5}]
)
def test_another_shape_costs_nothing(payload):
    """A payload that is no OpenAI-style body is not guessed at."""
    assert estimate_tokens(payload) == 0


def test_a_text_of_the_callers_own_class_counts_its_own_characters():
    """Whatever its ``str()`` says: templates return a safe text that is its own, enums a name."""

    class Safe(str):
        __slots__ = ()

        def __str__(self):
            return self

    class Role(str, Enum):  # noqa: UP042  # as callers have them
        USER = "u"

    messages = [{"role": Role.USER, "content": Safe("hi there")}]
    assert estimate_tokens({"messages": messages}) == 9 / 4 + 256
    image = {"role": "u", "content": Safe("data:image/png;base64," + "A" * 10**6)}
    assert estimate_tokens({"messages": [image]}) == 4_001 / 4 + 256


def test_a_deep_payload_is_no_trouble():
    """Ten thousand levels, or a cycle, neither raise nor take long."""
    deep = "x"
    for _ in range(10_000):
        deep = [deep]
    cycle: list = []
    cycle.append(cycle)
    assert estimate_tokens({"messages": deep}) == 256.25
    assert estimate_tokens({"messages": cycle}) == 0


@settings(max_examples=100)
@given(json_like, json_like, json_like)
def test_any_body_gives_a_finite_cost(messages, prompt, bound):
    """Whatever stands in a body, its cost is a finite number from 0."""
    body = {"messages": messages, "prompt": prompt, "max_tokens": bound}
    assert 0 <= estimate_tokens(body) < math.inf


def test_an_absurd_bound_does_not_raise():
    """A bound of 400 digits is not believed."""
    assert estimate_tokens({"prompt": "abcd", "max_tokens": 10**400}) < math.inf


BASE64 = base64.b64encode(bytes(range(256)) * 3_600).decode()
LINES = "\r\n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76))
DATA_URL = f"data:image/png;base64,{BASE64}"
SOURCE = {"type": "base64", "media_type": "image/png", "data": BASE64}


def _content(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}], "max_tokens": 50}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (_content({"type": "image_url", "image_url": {"url": DATA_URL}}), 1_050),
        (_content({"type": "image_url", "image_url": {"url": "https://a/b.png"}}), 1_050),
        (_content({"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}), 135),
        (_content({"type": "input_image", "image_url": "https://a/b", "detail": "low"}), 135),
        (_content({"type": "image", "source": SOURCE}), 1_650),
        (_content({"type": "image", "source": {**SOURCE, "data": LINES}}), 1_650),
        (_content({"type": "image", "source": {"type": "url", "url": "https://a/b"}}), 1_650),
        (_content({"type": "tool_result", "content": [{"source": SOURCE}]}), 1_650),
        (_content({"type": "image", "data": BASE64, "mimeType": "image/png"}), 1_050),
        (_content({"inline_data": {"mime_type": "image/png", "data": BASE64}}), 1_050),
        (_content({"type": "input_audio", "input_audio": {"data": "A" * 400_000}}), 150),
        (_content({"type": "audio", "data": "A" * 400_000, "mimeType": "audio/wav"}), 150),
        (_content({"file": {"file_data": f"data:application/pdf;base64,{BASE64}"}}), 5_000),
        (_content({"type": "document", "source": {"data": "JVBERi" + BASE64}}), 5_000),
        (_content({"video_url": {"url": f"data:video/mp4;base64,{BASE64}"}}), 1_050),
        ({"messages": [{"role": "user", "content": "?", "images": [BASE64]}]}, 1_256),
        ({"input": [{"type": "image_generation_call", "result": BASE64}]}, 1_256),
        ({"input": [{"image": BASE64}]}, 1_256),
    ],
)
def test_media_cost_what_media_cost(body, tokens):
    """However an API carries a megabyte of it, the estimate is within a factor of two."""
    assert tokens / 2 <= estimate_tokens(body) <= tokens * 2


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "x" * 40_000}]},
        _content({"type": "text", "text": "x" * 40_000}),
        {"messages": [{"role": "tool", "content": BASE64[:40_000]}]},
        {"messages": [{"tool_calls": [{"function": {"arguments": "x" * 40_000}}]}]},
        {"input": [{"type": "function_call_output", "output": "x" * 40_000}]},
        _content({"source": {"type": "text", "media_type": "text/plain", "data": "x" * 40_000}}),
        {"input": "x" * 40_000},
        {"system": [{"type": "text", "text": "x" * 40_000}]},
    ],
)
def test_text_that_looks_like_media_is_text(body):
    """What the model reads as text costs its characters."""
    assert 10_000 <= estimate_tokens(body) < 10_300


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"input": list(range(8_000))}, 8_000),
        ({"input": (*range(8_000),)}, 8_000),
        ({"input": [[1] * 4_000, [2] * 4_000]}, 8_000),
        ({"prompt": [1] * 8_000, "max_tokens": 50}, 8_050),
    ],
)
def test_token_ids_count_each(body, tokens):
    """A list of token ids costs its length."""
    assert estimate_tokens(body) == tokens


@pytest.mark.parametrize(
    "schema",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"d": "y" * 20_000}}},
        {"text": {"format": {"type": "json_schema", "schema": {"d": "y" * 20_000}}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "y" * 20_000}}]},
        {"tools": [{"name": "f", "input_schema": {f"name{i:04}": {} for i in range(1_500)}}]},
    ],
)
def test_schemas_count_as_they_are_written(schema):
    """A schema costs its JSON, names included."""
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 50, **schema}
    assert 4_900 <= estimate_tokens(body) <= 6_500


def test_a_schema_that_is_not_json_is_counted_too():
    """Objects and cycles do not raise."""
    tools: list = [{"name": "f", "of": object(), "description": "y" * 400}]
    tools.append(tools)
    assert estimate_tokens({"prompt": "abcd", "tools": tools}) > 300
    assert estimate_tokens({"prompt": "abcd", "text": "plain"}) == 257


# The tokens are those of OpenAI's o200k_base, and of cl100k_base, for the same text.
@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"),
    [
        ("速率限制器将调用保持在服务器的限制之下,并在服务器要求时等待。", 20, 26),
        ("レートリミッターは、サーバーの制限を下回るように呼び出しを保ちます。", 29, 35),
        ("속도 제한기는 호출을 서버의 한도 아래로 유지하고 기다립니다.", 17, 28),
        ("Каждая попытка оплачивается, потому что повтор отправлялся бы слишком часто.", 17, 33),
        ("يحافظ محدد المعدل على المكالمات أقل من حد الخادم وينتظر.", 19, 36),
        ("ตัวจำกัดอัตราจะรักษาจำนวนการเรียกให้ต่ำกว่าขีดจำกัดของเซิร์ฟเวอร์", 27, 64),
        ("😀😃😄😁😆😅😂🤣😊😇🙂🙃😉😌😍🥰😘😗😙😚", 31, 43),
    ],
)
def test_text_that_is_not_latin(text, o200k, cl100k):
    """It is within a factor of two of what either of two public tokenizers counts."""
    found = estimate_tokens({"input": text * 50}) / 50
    assert max(o200k, cl100k) / 2 <= found <= 2 * min(o200k, cl100k)
    assert estimate_tokens({"input": text + "\ud800"}) < math.inf


@pytest.mark.parametrize("start", ["DATA:image/png;base64,", "data:;base64,"])
def test_a_data_url_of_any_form_is_media(start):
    """In capitals, and without a type."""
    part = {"type": "image_url", "image_url": {"url": start + "A" * 100_000}}
    body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 10}
    assert 500 < estimate_tokens(body) < 2_000
