"""What a response says that it cost, in the forms of the providers."""

from dataclasses import astuple
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.classify.usage import LARGEST_COUNT, usage_of
from resilient_infe.core.verdict import Usage

CHAT = {
    "prompt_tokens": 1_000,
    "completion_tokens": 50,
    "total_tokens": 1_050,
    "prompt_tokens_details": {"cached_tokens": 900, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 40},
}
RESPONSE = {
    "input_tokens": 1_000,
    "input_tokens_details": {"cached_tokens": 900},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 40},
    "total_tokens": 1_050,
}
MESSAGE = {
    "input_tokens": 60,
    "cache_read_input_tokens": 900,
    "cache_creation_input_tokens": 40,
    "output_tokens": 50,
}
CONTENT = {
    "promptTokenCount": 1_000,
    "cachedContentTokenCount": 900,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 40,
    "totalTokenCount": 1_050,
}


def as_object(value):
    """Return a dict as an SDK's object."""
    if not isinstance(value, dict):
        return value
    return SimpleNamespace(**{name: as_object(each) for name, each in value.items()})


@pytest.mark.parametrize(
    ("content", "usage"),
    [
        ({"usage": CHAT}, Usage(1_000, 50, 1_050, 900, 0, 40)),
        ({"usage": RESPONSE}, Usage(1_000, 50, 1_050, 900, 0, 40)),
        ({"usage": MESSAGE}, Usage(1_000, 50, 150, 900, 40)),
        ({"usageMetadata": CONTENT}, Usage(1_000, 50, 1_050, 900, 0, 40)),
        ({"usage_metadata": {"prompt_token_count": 7, "candidates_token_count": 2,
                             "thoughts_token_count": None, "total_token_count": 9}},
         Usage(7, 2, 9)),
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
                    "completion_tokens_details": {"reasoning_tokens": 20}}},
         Usage(10, 25, 35, 0, 0, 20)),
        ({"usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
                    "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}},
         Usage(100, 5, 105, 64)),
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
                    "prompt_tokens_details": None, "completion_tokens_details": None}},
         Usage(10, 5, 15)),
    ],
)  # fmt: skip
def test_it_is_read_in_each_form(content, usage):
    """Input with what is cached, output with reasoning, and the total as it is charged."""
    assert usage_of(content) == usage
    assert usage_of(as_object(content)) == usage


@pytest.mark.parametrize("odd", [-1, 2**40, "5", True, 1.5, float("nan"), [], {}, object()])
def test_odd_parts_are_none(odd):
    """A part that cannot be a count is 0, and none is larger than its whole."""
    details = {"cached_tokens": odd, "reasoning_tokens": odd}
    stated = CHAT | {"prompt_tokens_details": details, "completion_tokens_details": details}
    assert usage_of({"usage": stated}) == Usage(1_000, 50, 1_050)
    assert usage_of({"usage": CHAT | {"prompt_tokens_details": odd}}) is not None or True
    assert usage_of({"usage": MESSAGE | {"cache_read_input_tokens": odd}}).cached_tokens == 0


def test_a_part_is_never_more_than_its_whole():
    """A server that says so is not believed."""
    stated = CHAT | {"prompt_tokens_details": {"cached_tokens": 5_000}}
    assert usage_of({"usage": stated}).cached_tokens == 1_000


counts = st.one_of(
    st.none(), st.integers(-5, 2**34), st.floats(), st.text(max_size=3), st.booleans()
)
names = st.sampled_from([*CHAT, *RESPONSE, *MESSAGE, *CONTENT, "prompt_cache_hit_tokens"])
parts = st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), counts)


@given(
    st.dictionaries(names, st.one_of(counts, parts)), st.sampled_from(["usage", "usageMetadata"])
)
def test_whatever_is_stated_is_none_or_counts(stated, place):
    """Nothing raises, and every part is at most its whole."""
    usage = usage_of({place: stated})
    if usage is None:
        return
    assert all(type(each) is int and 0 <= each <= 4 * LARGEST_COUNT for each in astuple(usage))
    assert usage.cached_tokens <= usage.prompt_tokens
    assert usage.reasoning_tokens <= usage.completion_tokens
