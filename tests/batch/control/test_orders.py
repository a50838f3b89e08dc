"""What a run does when it is told something: all of it or nothing."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest

from resilient_infe import errors, presets
from resilient_infe.batch import run_batch
from resilient_infe.batch.control import obey
from resilient_infe.testing import InfeModel, InProcessInfe


def rows(number):
    """So many rows."""
    return [{"model": "m", "messages": [{"role": "user", "content": "hi"}]} for _ in range(number)]


def go(run, steer, **options):
    """Run a batch beside a function that gives it orders; return how many rows have a result."""

    async def main():
        stack = presets.batch(**({"requests_per_minute": 600, "log": False} | options))
        model = InfeModel(latency=0.5, models=["m"])
        results = run_batch(rows(40), stack.around(InProcessInfe(model)))
        job = SimpleNamespace(stack=stack, under_way=results)
        async with anyio.create_task_group() as group:
            group.start_soon(steer, job)
            return len([result async for result in results if result.ok])

    return run(main)


def test_an_order_without_anything_says_how_the_run_stands(run):
    """Its state, and of each model the limits and what is under way."""

    async def steer(job):
        before = obey(SimpleNamespace(stack=job.stack, under_way=None), {})
        assert (before["state"], before["models"]) == ("beginning", {})
        await anyio.sleep(1)
        told = obey(job, {})
        assert told["state"] == "running"
        assert told["changes"] == []
        [(name, model)] = told["models"].items()
        assert (name, model["concurrency"]) == ("m", 64)
        assert model["in_flight"] > 0
        assert model["waiting"] > 0
        [limit] = model["limits"]
        assert (limit["dimension"], limit["period"], limit["limit"]) == ("requests", 60, 600)
        assert told["account"] is None

    assert go(run, steer) == 40


def test_limits_and_an_action_are_carried_out_together(run):
    """The reply has what changed, and the numbers from now on."""

    async def steer(job):
        await anyio.sleep(1)
        limits = {"requests_per_minute": 900, "concurrency": 8, "account": {"tokens_per_day": 1e9}}
        told = obey(job, {"limits": limits, "action": "pause"})
        assert told["state"] == "paused"
        assert [each["new"] for each in told["changes"]] == [900, 8, 1e9]
        assert told["models"]["m"]["concurrency"] == 8
        assert told["account"]["limits"][0]["limit"] in (1e9, 1e6)
        assert obey(job, {"action": "pause"})["state"] == "paused"
        assert obey(job, {"action": "resume"})["state"] == "running"
        own = obey(job, {"limits": {"requests_per_minute": 50}, "model": "other"})
        assert own["changes"][0]["model"] == "other"

    assert go(run, steer, account={"requests_per_minute": 1e6}) == 40


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"nonsense\x1b": 1}, "an order has no 'nonsense_'"),
        ({"action": "explode"}, "pause, resume, drain"),
        ({"action": ["pause"]}, "pause, resume, drain"),
        ({"limits": [1]}, "limits by name"),
        ({"limits": {"rpm": 5}}, "there is no limit 'rpm'"),
        ({"limits": {"model": "m"}}, "there is no limit"),
        ({"limits": {"self": "m"}}, "there is no limit"),
        ({"limits": {"concurrency": 0}}, "whole number"),
        ({"limits": {"concurrency": 1e9}}, "whole number"),
        ({"limits": {"requests_per_minute": None}}, "say which limit"),
        ({"limits": {"requests_per_minute": float("nan")}}, "above 0"),
        ({"limits": {"requests_per_minute": "600"}}, "above 0"),
        ({"limits": {"account": {"requests_per_minute": 5}}}, "no limit over all models"),
        ({"limits": {"requests_per_minute": 5}, "model": 7}, "name of a model"),
        ({"model": "m"}, "a model without a limit"),
        ({"model": "m", "action": "pause"}, "a model without a limit"),
        ({"limits": {"concurrency": 0}, "action": "pause"}, "whole number"),
    ],
)
def test_what_is_no_order_changes_nothing(run, order, message):
    """It says what to do instead, and the run goes on as it was."""

    async def steer(job):
        await anyio.sleep(1)
        before = str(job.stack)
        with pytest.raises(errors.ConfigurationError, match=message):
            obey(job, order)
        assert str(job.stack) == before
        assert job.under_way.state == "running"

    assert go(run, steer) == 40


def test_a_run_that_begins_or_ends_is_not_changed(run):
    """It says so."""

    async def steer(job):
        soon = SimpleNamespace(stack=job.stack, under_way=None)
        with pytest.raises(errors.ConfigurationError, match="about to begin"):
            obey(soon, {"action": "pause"})
        await anyio.sleep(1)
        assert obey(job, {"action": "drain"})["state"] == "draining"
        for order in ({"action": "resume"}, {"action": "pause", "limits": {"concurrency": 3}}):
            with pytest.raises(errors.ConfigurationError, match="comes to its end"):
                obey(job, order)
        assert "64 in flight" in str(job.stack)

    with pytest.raises(BaseException) as caught:  # noqa: PT011  # of a group on trio
        go(run, steer)
    assert caught.group_contains(errors.BatchPaused)
