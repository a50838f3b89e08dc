"""The files that a run leaves: lines in the form of OpenAI's Batch, put in place when whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.files.answer import answer_line, bad_line
from resilient_infe.batch.files.output import Output
from resilient_infe.batch.result import Failure, Result
from resilient_infe.core.verdict import Kind
from resilient_infe.errors import BatchError

TEXTS = st.text(st.characters(codec=None), max_size=20)


@given(TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS | st.floats(), max_size=3))
def test_a_line_for_a_result(custom_id, request_id, body):
    """It is one line of JSON, in the form of OpenAI's Batch, whatever is in the reply."""
    result = Result(4, custom_id, None, body, status=200, request_ids=("first", request_id))
    line = answer_line(result)
    assert line.isascii()
    assert line.splitlines(keepends=True) == [line]
    found = json.loads(line, parse_constant=pytest.fail)
    assert list(found) == ["id", "custom_id", "response", "error"]
    assert (found["custom_id"], found["error"]) == (custom_id, None)
    assert found["response"]["status_code"] == 200
    assert found["response"]["request_id"] == request_id
    assert found["response"]["body"].keys() == body.keys()


@given(TEXTS, st.none() | st.integers(100, 599), st.none() | TEXTS)
def test_a_line_for_a_failure(message, status, code):
    """A failure has the server's response where there was one, and always an error."""
    failure = Failure(Kind.INVALID, message, status, code, body={"error": {"m": message}},
                      permanent=True)  # fmt: skip
    found = json.loads(answer_line(Result(0, "a", None, failure=failure, attempts=3)))
    assert found["error"]["message"] == message
    assert found["error"]["code"] == (code or "invalid")
    assert (found["error"]["attempts"], found["error"]["permanent"]) == (3, True)
    if status is None:
        assert found["response"] is None
    else:
        assert found["response"]["body"] == {"error": {"m": message}}


def test_a_line_for_a_bad_line():
    """It says which line of the input it was."""
    found = json.loads(bad_line(17, "line 17: it is not JSON"))
    assert (found["custom_id"], found["error"]["line"]) == (None, 17)


def test_a_first_run_writes_in_place(tmp_path):
    """Its lines can be read while it goes on."""
    output = Output(str(tmp_path / "out"), beside=False)
    output.write(b"one\n")
    output.flush()
    assert (tmp_path / "out").read_bytes() == b"one\n"
    output.close()


def test_a_run_that_goes_on_writes_beside(tmp_path):
    """The old file stands until the new one holds all that is known; then that goes on."""
    path = tmp_path / "out"
    path.write_bytes(b"old\n")
    output = Output(str(path), beside=True)
    output.write(b"one\n")
    output.flush()
    assert path.read_bytes() == b"old\n"
    output.settle()
    output.write(b"two\n")
    output.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_one_that_was_not_settled_is_dropped(tmp_path):
    """A run that ends before it has caught up leaves the old file."""
    path = tmp_path / "out"
    path.write_bytes(b"old\n")
    output = Output(str(path), beside=True)
    output.write(b"one\n")
    output.close()
    assert path.read_bytes() == b"old\n"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_an_output_without_lines(tmp_path):
    """Nothing is made where there is nothing to tell, and what was told before is gone."""
    path = tmp_path / "errors"
    Output(str(path), beside=False).close()
    assert not path.exists()
    path.write_bytes(b"old\n")
    output = Output(str(path), beside=True)
    output.settle()
    assert not path.exists()


def test_an_output_that_cannot_be_written(tmp_path):
    """It is told with its name, and that the results are safe."""
    with pytest.raises(BatchError, match="safe in the journal"):
        Output(str(tmp_path), beside=False).write(b"x\n")
    full = Output("/dev/full", beside=False)
    full.write(b"x\n")
    with pytest.raises(BatchError, match="No space left"):
        full.flush()
    with pytest.raises(BatchError, match="No space left"):
        full.close()


def test_nobody_else_reads_it_and_no_link_is_followed(tmp_path):
    """A new file is its owner's alone, an old one keeps its mode, a link beside is replaced."""
    fresh = Output(str(tmp_path / "fresh"), beside=False)
    fresh.write(b"x\n")
    fresh.close()
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o600
    path, victim = tmp_path / "out", tmp_path / "victim"
    path.write_bytes(b"old\n")
    path.chmod(0o644)
    victim.write_bytes(b"precious")
    (tmp_path / "out.new").symlink_to(victim)
    output = Output(str(path), beside=True)
    output.write(b"x\n")
    output.settle()
    output.close()
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"x\n"
    assert path.stat().st_mode & 0o777 == 0o644
