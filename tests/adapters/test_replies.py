"""From a reply to its typed error, and what may stand in its text."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Call, Hold, Reply, errors
from resilient_infe.adapters.http.masking import printable
from resilient_infe.adapters.infe.credentials import ApiKey
from resilient_infe.adapters.infe.models import ModelList
from resilient_infe.adapters.infe.replies import CLASSES, error_of
from resilient_infe.classify.table import RETRYABLE
from resilient_infe.core.verdict import Kind


def test_every_kind_of_error_has_a_class():
    """Each kind that a reply can mean has its class."""
    own = {Kind.OK, Kind.TIMEOUT, Kind.CANCELLED, Kind.REFUSED, Kind.UNKNOWN}
    assert set(CLASSES) == set(Kind) - own
    assert RETRYABLE - {Kind.TIMEOUT} <= set(CLASSES)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\r\nb\x1b[31m", "a\\r\\nb\\x1b[31m"),
        ("\u202etxt", "\\u202etxt"),
        ("Incorrect API key: sk-abcdefgh12345", "Incorrect API key: sk-***"),
        ("Bearer abcdef.ghi", "Bearer ***"),
        ("x" * 2_000, "x" * 500),
    ],
)
def test_text_from_outside_is_made_harmless(text, shown):
    """Messages are bounded, in one line, and without what looks like a key."""
    assert printable(text) == shown


@given(st.integers(300, 599), st.one_of(st.none(), st.binary(), st.text(), st.lists(st.integers())))
def test_any_reply_has_an_error(status, body):
    """Whatever the body, the error has the status and can be printed and pickled."""
    error = error_of(Reply(status, {}, body))
    assert error.status == status
    assert str(status) in str(error)
    assert pickle.loads(pickle.dumps(error)).status == status


def test_a_reply_and_a_call_show_no_secret():
    """The reprs of a reply and of a call hold neither headers, bodies nor payloads."""
    assert repr(Reply(200, {"a": "secret"}, "secret")) == "Reply(status=200)"
    assert "secret" not in repr(Call("secret"))
    assert repr(ApiKey("sk-secret")) == "ApiKey('***')"


def test_a_closed_hold_calls_back_at_once():
    """What is hung on a hold after its end is released at once; what was before, once, in order."""
    hold, log = Hold(), []
    hold.on_close(lambda usage: log.append(("inner", usage)))
    hold.on_close(lambda usage: log.append(("outer", usage)))
    hold.close()
    hold.close()
    hold.on_close(lambda usage: log.append(("late", usage)))
    assert log == [("inner", None), ("outer", None), ("late", None)]


@pytest.mark.parametrize(
    "answer", [None, [], {"data": None}, {"data": [5, {"id": 7}]}, OSError("down"), "html"]
)
def test_a_list_of_models_that_fails_changes_nothing(answer, run):
    """Without a usable list the error keeps its own advice, and the list is not asked for again."""
    asked = []

    async def fetch():
        asked.append(1)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main():
        models = ModelList(fetch)
        for _ in range(3):
            error = errors.ModelNotFoundError("no", advice="look")
            await models.explain(error, "infe-titn")
            assert error.advice == "look"

    run(main)
    assert len(asked) == 1


def test_a_list_of_models_that_hangs_is_given_up(run):
    """An error message does not wait for a list that never comes."""
    import anyio

    async def main():
        error = errors.ModelNotFoundError("no", advice="look")
        await ModelList(anyio.sleep_forever).explain(error, "x")
        return error.advice

    assert run(main) == "look"
