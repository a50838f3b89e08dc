"""``run --shared``: the limits of all runs that name the same Redis."""

from __future__ import annotations

import gc
import sys

import pytest
from served import served

from resilient_infe import events
from resilient_infe.batch.files.sharing import Told
from resilient_infe.cli import main

pytestmark = pytest.mark.network


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """Each test has a folder with an input, and no Redis in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFE_SHARED", raising=False)
    (tmp_path / "in.jsonl").write_text(
        "\n".join(f'{{"custom_id": "r{n}", "prompt": "{n}"}}' for n in range(8))
    )
    return tmp_path


def command(url, *more):
    """Return a run of the input."""
    return ["run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--quiet",
            "--model", "infe-pulse", "--rpm", "6000", *more]  # fmt: skip


def test_a_run_takes_a_share_and_gives_it_back(redis_server, rows):
    """Its rows are sent with a share of the limit by its name, which is free afterwards."""
    import redis

    with served() as (url, model):
        assert main(command(url, "--shared", redis_server.url, "--shared-name", "t-run")) == 0
    assert model.books.answered == 8
    assert len((rows / "out.jsonl").read_text().splitlines()) == 8
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        known = client.hgetall("{t-run}:model:infe-pulse")
    assert known["share"] == "0"
    assert not [field for field in known if field.startswith("m:")]


def test_the_environment_may_name_the_redis(redis_server, monkeypatch):
    """A URL with a password stays out of the arguments, which other users can see."""
    import redis

    monkeypatch.setenv("INFE_SHARED", redis_server.url)
    with served() as (url, _):
        assert main(command(url, "--shared-name", "t-env")) == 0
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.exists("{t-env}:model:infe-pulse")


def test_a_redis_that_cannot_be_reached_is_told_before_anything_is_sent(redis_server, capsys, rows):
    """The run ends with the code of one that cannot begin, and with a line that says why."""
    nobody = "redis://:hunter22@127.0.0.1:1/0"
    with served() as (url, model):
        assert main(command(url, "--shared", nobody)) == 2
    told = capsys.readouterr().err
    assert "Redis does not answer" in told
    assert "127.0.0.1:1" in told
    assert "hunter22" not in told
    assert model.books.answered == 0


@pytest.mark.parametrize("wrong", ["localhost", "http://h/0", "redis://", "redis://:hun/ter@h:1/0"])
def test_a_wrong_url_is_told_without_what_it_says(wrong, capsys):
    """A password in it is not shown."""
    try:
        code = main(command("http://127.0.0.1:1/v1", "--shared", wrong))
    except SystemExit as end:
        code = end.code
    assert code == 2
    told = capsys.readouterr().err
    assert "URL of Redis" in told
    assert "hun" not in told


@pytest.mark.parametrize("wrong", ["", "a b", "{x}", "x" * 65])
def test_a_wrong_name_is_told(wrong, capsys):
    """It must be one that keys can have."""
    with pytest.raises(SystemExit) as end:
        main(command("http://127.0.0.1:1/v1", "--shared-name", wrong))
    assert end.value.code == 2
    assert "is not a name" in capsys.readouterr().err


def test_without_the_package_the_extra_is_told(monkeypatch, capsys):
    """Where redis is not installed, nothing is sent."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    assert main(command("http://127.0.0.1:1/v1", "--shared", "redis://h:1/0")) == 2
    assert "resilient-infe[redis]" in capsys.readouterr().err


def test_a_number_of_processes_does_not_go_with_it(redis_server, capsys):
    """Redis knows how many there are; the journal, which was opened before, is closed."""
    more = "--shared", redis_server.url, "--processes", "2"
    assert main(command("http://127.0.0.1:1/v1", *more)) == 2
    assert "processes" in capsys.readouterr().err
    gc.collect()  # from Python 3.13 on it tells of what was left open


def test_a_loss_is_told_once_for_all_models():
    """So is the way back."""
    said = []
    listen = Told(said.append)
    for name in ("model:a", "model:b"):
        listen(events.SharesLost(name, 0.5, "keep", "no\nanswer"))
    for name in ("model:a", "model:b"):
        listen(events.SharesRestored(name, 0.5, 12.0))
    assert said == ["Redis does not answer: no\\nanswer", "Redis answers again, after 12 s"]
