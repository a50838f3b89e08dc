"""What a request is to the stack: its partition, its key's hash, its body."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import KEY

from resilient_infe import Call, call_options
from resilient_infe.adapters.http.request import LONGEST_REQUEST, prepare_call

BASES = {
    "/v1/chat/completions": "/v1",
    "/v1": "/v1",
    "/v1/": "/v1",
    "/v1/models/infe-pulse": "/v1",
    "/v1/files/file-17/content": "/v1",
    "/v1?x=/v2": "/v1",
    "/tenant-a/v1/chat/completions": "/tenant-a/v1",
    "/tenant-b/v1/embeddings?api-version=1": "/tenant-b/v1",
    "/api/paas/v4/chat/completions": "/api/paas/v4",
    "/v1beta/openai/chat/completions": "/v1beta",
    "/v1.1/messages": "/v1.1",
    "/openai/deployments/gpt/chat/completions": "/openai/deployments/gpt",
    "/openai/deployments/gpt/chat/completions?api-version=2026": "/openai/deployments/gpt",
    "/chat/completions": "",
    "/proxy/chat/completions": "/proxy",
    "/proxy/messages": "/proxy",
    "/": "",
    "": "",
}


def partition_of(path="/v1/x", headers=None, body=b"{}", origin="api.infe.io"):
    """Return the partition of a request."""
    call = Call(None)
    prepare_call(call, "POST", origin, path, headers or {}, body)
    return call.partition


def model_of(body):
    """Return the model in the partition of a request with a body."""
    return partition_of(body=body).removeprefix("api.infe.io/v1/").removesuffix("#")


def hash_of(key, name="authorization"):
    """Return what stands for a key in the partition of a request."""
    return partition_of(headers={name: key}).partition("#")[2]


@pytest.mark.parametrize(("path", "base"), BASES.items(), ids=BASES)
def test_the_base_of_a_path(path, base):
    """A path belongs to its base URL: up to its version, or to the endpoint where it has none."""
    assert partition_of(path) == f"api.infe.io{base}/#"


def test_paths_without_a_version_do_not_make_a_partition_each():
    """Ids in the paths of some other API are no limits of their own."""
    found = {partition_of(f"/users/{n}/items") for n in range(100)}
    assert len(found) == 1


def test_a_partition_tells_server_path_model_and_key_apart():
    """Anything that has a limit of its own is a partition of its own."""
    body = json.dumps({"model": "infe-pulse"})
    mine, yours = {"authorization": "Bearer mine"}, {"authorization": "Bearer yours"}
    found = [
        partition_of("/v1/chat/completions", mine, body),
        partition_of("/v2/chat/completions", mine, body),
        partition_of("/v1/chat/completions", yours, body),
        partition_of("/v1/chat/completions", mine, body.replace("pulse", "titan")),
        partition_of("/v1/chat/completions", mine, body, origin="api.infe.io:8443"),
        partition_of("/v1/chat/completions", {}, body),
    ]
    assert len(set(found)) == len(found)
    assert found[0] == f"api.infe.io/v1/infe-pulse#{hash_of('Bearer mine')}"
    assert found[0] == partition_of("/v1/embeddings", mine, body.encode())
    assert found[5] == "api.infe.io/v1/infe-pulse#"


@pytest.mark.parametrize("name", ["authorization", "api-key", "x-api-key", "x-goog-api-key"])
def test_a_key_is_found_wherever_an_api_takes_it(name):
    """The usual headers for keys, each told apart and none shown."""
    first, second = (hash_of(f"{KEY}{n}", name) for n in range(2))
    assert first != second
    assert re.fullmatch("[0-9a-f]{8}", first)


def test_a_token_that_is_renewed_stays_in_its_partition():
    """Microsoft Entra ID (Azure) and Google Vertex AI renew a JSON Web Token by the hour."""
    tokens = ["eyJhbGciOi.eyJleHAi.one", "eyJhbGciOi.eyJleHAi.two"]
    for scheme in ("Bearer ", "bearer ", ""):
        assert {hash_of(scheme + token) for token in tokens} == {"token"}
    assert hash_of("Bearer eyJ-a-key") != "token"
    assert hash_of("Bearer sk-a.b.c") != "token"


def test_a_signature_is_known_by_who_signs():
    """Amazon Bedrock signs each request anew (AWS Signature Version 4); the key id stays."""

    def signed(user, day, signature):
        return (
            f"AWS4-HMAC-SHA256 Credential={user}/{day}/eu-west-1/bedrock/aws4_request, "
            f"SignedHeaders=host;x-amz-date, Signature={signature}"
        )

    mine = {hash_of(signed("AKIDEXAMPLE", "20261130", text)) for text in ("aa11", "bb22")}
    assert len(mine) == 1
    assert mine != {hash_of(signed("AKIDOTHER", "20261130", "aa11"))}


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_keys_hash_tells_nothing(before, after):
    """Eight digits or a word, never the key, whatever stands around it, surrogates included."""
    for key in before + KEY + after, f"{before} {KEY} {after}", before + after:
        found = hash_of(key)
        assert KEY not in found
        assert re.fullmatch(r"[A-Za-z0-9._:/@+-]{0,16}", found)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic", "Token", "Key", "Api-Key"])
def test_a_key_may_come_under_another_scheme(scheme):
    """Whatever an API calls its scheme, two keys are two."""
    assert hash_of(f"{scheme} {KEY}1") != hash_of(f"{scheme} {KEY}2")


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
    """So is a path, whatever the client made of it."""
    found = partition_of(path)
    assert found.isprintable()
    assert not set(found) & set(" \r\n\x1b\u202e")


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
    assert partition_of(body=content) == "api.infe.io/v1/#"


def test_options_name_the_partition_instead():
    """`call_options(partition=...)` comes before what the request says."""
    call = Call(None)
    with call_options(partition="mine"):
        prepare_call(call, "POST", "host", "/v1/x", {}, b"{}")
    assert call.partition is None  # the stack fills it in
    with call_options(tokens=5):
        prepare_call(call, "POST", "host", "/v1/x", {}, b"{}")
    assert call.partition == "host/v1/#"
