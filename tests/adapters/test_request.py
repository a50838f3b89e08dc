"""What a request is to the stack: its partition, its key, its body."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import KEY

from resilient_infe import Call, call_options
from resilient_infe.adapters.http.partition import Partitions, model_in_path
from resilient_infe.adapters.http.request import (
    KEY_HEADERS,
    LONGEST_REQUEST,
    _is_outermost,
    prepare_call,
)
from resilient_infe.errors import ConfigurationError

PATHS = {
    "/v1/chat/completions": None,
    "/v1/models/infe-pulse": None,
    "/users/17/items": None,
    "/openai/deployments/gpt/chat/completions?api-version=1": "gpt",
    "/openai/deployments/gpt%20x/chat/completions": "gpt_20x",
    "/v1/engines/gpt/embeddings": "gpt",
    "/v1beta/models/gemini-pro:generateContent": "gemini-pro",
    "/x?y=/deployments/gpt/z": None,
    "/deployments/": None,
    "/deployments//x": None,
    "": None,
}


def partition_of(path="/v1/x", headers=None, body=b"{}", given=None):
    """Return the partition of a request."""
    call = Call(None)
    found = prepare_call(call, "POST", path, headers or {}, body)
    Partitions(given).place(call, lambda: body, found.model() or model_in_path(path))
    return call.partition


def model_of(body):
    """Return the partition of a request with a body; an empty text if it has none."""
    return partition_of(body=body) or ""


@pytest.mark.parametrize(("path", "model"), PATHS.items(), ids=PATHS)
def test_a_path_may_name_the_model(path, model):
    """Azure and Google put it there; a path that reads about a model asks for none."""
    assert partition_of(path) == model
    assert partition_of(path, body=b'{"model": "infe-pulse"}') == "infe-pulse"


def test_a_partition_is_the_model_whatever_the_key():
    """Providers limit an account, which may have many keys."""
    body = json.dumps({"model": "infe-pulse"})
    keys = [{name: f"{KEY}{n}"} for n in range(2) for name in KEY_HEADERS]
    assert {partition_of(headers=each, body=body) for each in keys} == {"infe-pulse"}


def test_a_key_is_masked_in_what_the_call_tells():
    """It is noted, although it is no part of the partition."""
    call = Call(None)
    prepare_call(call, "POST", "/v1/x", {"authorization": f"Bearer {KEY}"}, b"{}")
    assert call.state.mask is not None
    assert KEY not in call.state.mask(f"id-{KEY}")


def test_a_partition_can_be_given():
    """As a text, or as a function of the request, which may leave it to the model."""
    body = b'{"model": "infe-pulse"}'
    assert partition_of(body=body, given="batch") == "batch"
    assert partition_of(body=body, given=lambda request: f"{len(request)}") == str(len(body))
    for nothing in (None, ""):
        assert partition_of(body=body, given=lambda _, found=nothing: found) == "infe-pulse"


@pytest.mark.parametrize("given", ["", 5, b"x", ["a"], lambda: "x", lambda a, b: "x"])
def test_a_partition_that_cannot_be_meant_is_refused(given):
    """When the client is wrapped, not at its first call."""
    with pytest.raises(ConfigurationError, match="partition"):
        Partitions(given)


@pytest.mark.parametrize("found", [5, b"x", True, ["a"], float("nan")])
def test_a_function_that_returns_no_text_is_told(found):
    """A wrong limit would be kept in silence."""
    with pytest.raises(ConfigurationError, match="partition= must return a text"):
        partition_of(given=lambda _: found)


@given(st.text(max_size=300))
def test_a_model_is_safe_to_log(model):
    """A model's name from outside is bounded, in one line, plain, and not lost."""
    found = model_of(json.dumps({"messages": [{"content": '"model": "x"'}], "model": model}))
    assert re.fullmatch(r"[A-Za-z0-9._:/@+-]{0,128}", found)
    assert len(found) == min(len(model), 128)


OTHERS = st.dictionaries(
    st.sampled_from(["messages", "metadata", "tools", "stream", "models", "a"]),
    st.recursive(
        st.text(max_size=3) | st.sampled_from(["model", '"model": "x"', "infe-titan"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["model", "b"]), inner, max_size=2)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


@given(OTHERS, st.booleans(), st.booleans())
def test_the_model_is_the_bodys_own(others, first, compact):
    """What stands deeper down, or in a prompt, is not the model that is asked for."""
    model = {"model": "infe-pulse"}
    body = model | others if first else others | model
    separators = (",", ":") if compact else None
    assert model_of(json.dumps(body, separators=separators).encode()) == "infe-pulse"
    assert model_of(json.dumps(others, separators=separators)) == ""


@given(st.text(max_size=200))
def test_a_path_is_safe_to_log(path):
    """So is a model in a path, whatever the client made of it."""
    found = partition_of(f"/deployments/{path}") or ""
    assert re.fullmatch(r"[A-Za-z0-9._:/@+-]{0,128}", found)


@pytest.mark.parametrize("body", [None, [], "text", 5, {}, {"model": None}, {"model": ["m"]}])
def test_a_body_without_a_model(body):
    """Whatever stands where a model would, there is none."""
    assert model_of(json.dumps(body)) == ""


ODD = {
    "nothing": None,
    "empty": b"",
    "garbage": b"not json",
    "half": b'{"messages": [',
    "bytes": b"\xff\xfe\x00",
    "a list": b"[1]",
    "deep": b"[" * 100_000,
    "digits": b"9" * 10_000,
    "long": b'"' + b"x" * LONGEST_REQUEST + b'"',
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_a_body_of_any_kind_names_no_model(content):
    """What cannot be read raises nothing, and belongs where requests without a model do."""
    assert partition_of(body=content) is None


def test_options_name_the_partition_instead():
    """`call_options(partition=...)` comes before what was given, and before the model."""
    with call_options(partition="mine"):
        assert partition_of(body=b'{"model": "m"}', given="x") is None  # the stack fills it in
    with call_options(tokens=5):
        assert partition_of(body=b'{"model": "m"}', given="x") == "x"


@pytest.mark.parametrize(
    ("content", "outermost"),
    [
        ('{"model": "x", "a": [{}]}', True),
        ('{"a": {"b": 1}, "model": "x", "c": {"d": 2}, "e": [1]}', True),
        ('{"a": 1234567, "model": "x", "c": "} ]"}', True),
        ('{"a": {"b": 1, "model": "x", "c": {"d": 2}}}', False),
        ('{"a": [{"b": 1, "model": "x"}, {}]}', False),
    ],
)
def test_where_a_field_stands_is_told_by_the_braces_after_it(content, outermost):
    """Those that open and close again count for nothing; those in strings are no braces."""
    start = content.index('"model"')
    assert _is_outermost(content, start, start + len('"model": "x"')) is outermost
