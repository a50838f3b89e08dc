"""The estimate of a request's tokens: from its characters and the output it asks for."""

import math
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe.rate.estimate import (
    CHARACTERS_PER_TOKEN,
    EXPECTED_OUTPUT,
    IMAGE_CHARACTERS,
    estimate_tokens,
)

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
