"""Rows of a Python program: the same forms as in a file, where a transport takes bodies."""

from __future__ import annotations

import copy

import pytest

from resilient_infe import ErrorClassifier, InfeTransport, Stack, presets
from resilient_infe.batch import run_batch
from resilient_infe.core.verdict import Kind
from resilient_infe.errors import ConfigurationError
from resilient_infe.testing import InfeModel, InProcessInfe, run_virtually

MESSAGES = [{"role": "user", "content": "hi"}]


class Recording(InProcessInfe):
    """A stand-in that keeps what it is sent."""

    def __init__(self):
        super().__init__(InfeModel())
        self.seen = []

    async def handle(self, call):
        """Keep the payload, and answer."""
        self.seen.append(call.payload)
        return await super().handle(call)


def sent(rows, transport, **options):
    """Run rows through a stack; returns their results in order."""

    async def main():
        send = presets.batch(requests_per_minute=60_000).around(transport)
        return [each async for each in run_batch(rows, send, ordered=True, **options)]

    return run_virtually(main)


FORMS = [
    "hi",
    {"prompt": "hi", "max_tokens": 5},
    {"custom_id": "a", "messages": MESSAGES},
    {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions",
     "body": {"messages": MESSAGES}},
    {"body": {"prompt": "hi", "model": "infe-titan"}, "url": "/chat/completions"},
    {"model": "infe-titan", "messages": MESSAGES},
]  # fmt: skip


def test_rows_are_read_as_in_a_file():
    """Each is sent as a body with a model, under its own id; the row itself is not changed."""
    transport, rows = Recording(), copy.deepcopy(FORMS)
    results = sent(rows, transport, model="infe-pulse")
    assert [each.id for each in results] == ["row-1", "row-2", "a", "b", "row-5", "row-6"]
    assert all(each.ok for each in results)
    assert rows == FORMS
    assert [each.row for each in results] == FORMS
    bodies = sorted(transport.seen, key=str)
    assert [each["model"] for each in bodies].count("infe-titan") == 2
    assert all(each["messages"] == MESSAGES and "custom_id" not in each for each in bodies)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"custom_id": "a", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}},
            "path=",
        ),
        ({"question": "x"}, "its fields are question"),
        ({"custom_id": "a", "response": {}}, "a result, not a request"),
        ("x", "names no `model`"),
    ],
)
def test_a_row_that_is_no_request_fails_alone(row, told):
    """Nothing is sent for it, and the others go on."""
    transport = Recording()
    good = {"model": "infe-pulse", "messages": MESSAGES}
    bad, other = sent([row, good], transport)
    assert (bad.failure.kind, bad.failure.code, bad.attempts) == (Kind.INVALID, "bad_row", 0)
    assert told in bad.failure.message
    assert other.ok
    assert len(transport.seen) == 1


def test_a_function_takes_what_it_is_given():
    """Rows are read for a transport of bodies alone, and a hook makes its own payload."""

    async def double(payload):
        return payload

    async def main(send, **options):
        rows = ["hi", {"prompt": "hi"}, {"body": {}}, 5]
        return [each.value async for each in run_batch(rows, send, ordered=True, **options)]

    rows = ["hi", {"prompt": "hi"}, {"body": {}}, 5]
    assert run_virtually(lambda: main(double)) == rows
    assert run_virtually(lambda: main(Stack(ErrorClassifier()).around(double))) == rows
    transport = Recording()
    assert all(each.ok for each in sent([1], transport, request=lambda _: {
        "model": "infe-pulse", "messages": MESSAGES}))  # fmt: skip


def test_what_cannot_be_meant():
    """One row in the place of many, and a model that nothing takes, are refused at once."""
    send = presets.batch().around(InfeTransport("sk-test"))
    for rows in ("a text", b"bytes", {"prompt": "x"}):
        with pytest.raises(ConfigurationError, match="give a list of rows"):
            run_batch(rows, send)
    with pytest.raises(ConfigurationError, match="let request= name it"):
        run_batch([], send, request=str, model="m")
    with pytest.raises(ConfigurationError, match="let request= name it"):
        run_batch([], print, model="m")
    with pytest.raises(ConfigurationError, match="model: give text"):
        run_batch([], send, model=5)
