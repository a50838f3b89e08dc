"""Each harness of `make proof` catches a planted fault, and the table shows it."""

from __future__ import annotations

import math

import anyio
import pytest
from fakes import FakeServer, all_at_once
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from power import HEADER, opened, written
from readers import READERS, Reader, checked
from rules import Rules
from soak import Soak
from ticks import ticked

from resilient_infe import (
    Allowance,
    Circuit,
    ConcurrencyLimiter,
    ErrorClassifier,
    RequestIdLogger,
    Slots,
    Stack,
    errors,
)
from resilient_infe.adapters.http.masking import KeyMask
from resilient_infe.rate.learning.learner import Learner
from resilient_infe.testing import run_virtually
from resilient_infe.testing.virtual import DeadlockError
from tests.adapters.test_canary import KEY as CANARY
from tests.adapters.test_canary import quoted_in
from tests.cancellation.test_every_await import awaited, scenario
from tests.circuit.test_circuit import _CircuitMachine
from tests.histories import MOST, Driver, everything
from tests.proof import __main__ as proof
from tests.proof.test_readers import fuzzed
from tests.rate.test_allowance import _AllowanceMachine
from tests.slots.test_slots import _SlotsMachine


def violations(*layers, script=(), calls=5, latency=1.0, **rules):
    """Run calls through a stack of some layers; returns what the rules found."""
    found = Rules(**{"per_minute": 100, "slots": 100} | rules)
    layers = (RequestIdLogger(log=False), *layers)
    found.stack = Stack(*layers, ErrorClassifier(), found.watch, listeners=[found], strict=False)
    send = found.stack.around(FakeServer([*script], latency=latency))

    async def main():
        with anyio.move_on_after(100.0):
            await all_at_once(send, range(calls))
        found.at_rest()

    run_virtually(main)
    return set(found.violations)


async def again_at_once(call, call_next):
    """Try again, whatever the server has asked for."""
    try:
        return await call_next(call)
    except errors.InfeError:
        return await call_next(call)


async def first_one_last(call, call_next):
    """Hold the first call back."""
    if call.payload == 0:
        await anyio.sleep(5.0)
    return await call_next(call)


def test_the_rules_find_nothing_where_nothing_is_wrong():
    """A stack that keeps them passes."""
    assert violations(ConcurrencyLimiter(2), slots=2, deadline=10.0) == set()


def test_the_rules_see_a_limit_that_is_not_kept():
    """Too many in progress, and too many in a minute."""
    assert violations(slots=4, per_minute=3) >= {
        "5 in progress",
        "4 sent within a minute",
        "5 sent within a minute",
    }


def test_the_rules_see_a_hint_that_is_not_kept():
    """A call that was told to wait comes back at once."""
    refusal = (429, {"retry-after": "7"})
    assert "sent before its hint was over" in violations(again_at_once, script=[refusal])


def test_the_rules_see_a_call_that_outlives_its_deadline():
    """The deadline is hard."""
    assert violations(latency=3.0, deadline=2.0) == {"a call outlived its deadline"}


def test_the_rules_see_a_call_that_overtakes():
    """First come, first sent."""
    assert violations(first_one_last, calls=1) == set()

    async def start():
        found = Rules(per_minute=None, slots=9)
        stack = Stack(
            RequestIdLogger(log=False), first_one_last, ErrorClassifier(), found.watch,
            listeners=[found],
        )  # fmt: skip
        send = stack.around(FakeServer())
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(send, number)
                await anyio.sleep(1.0)
        return found.violations

    assert run_virtually(start) == ["a first attempt overtook another"]


class Leaking(ConcurrencyLimiter):
    """Keeps the slot of a call that was cancelled."""

    def leave(self, call, held, result, error):
        """Give it back, but not then."""
        if error is None or isinstance(error, Exception):
            super().leave(call, held, result, error)


def test_the_rules_see_what_is_not_given_back(monkeypatch):
    """A slot that is never released, and the call that waits for it."""
    monkeypatch.setattr(ConcurrencyLimiter, "leave", lambda *_: None)
    found = violations(ConcurrencyLimiter(3), slots=3)
    assert any(each.startswith("slots, reservations, probes not given back") for each in found)
    assert "a call outlived its deadline" not in found


def leaking():
    """Return a stack with one slot, which it may lose."""
    return Stack(Leaking(1), ErrorClassifier())


@pytest.mark.parametrize("driven", [awaited, ticked])
def test_cancellation_finds_a_slot_that_is_lost(driven, run):
    """At some await, and in some round, the slot is held."""
    found = 0
    for at in range(1, 20):
        try:
            run(lambda at=at: scenario(leaking, at, None, driven=driven))
        except (AssertionError, DeadlockError):  # the others may wait for it for ever
            found += 1
    assert found


SMALL = settings(
    max_examples=100, stateful_step_count=30, deadline=None, database=None, derandomize=True,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "policy", "broken"),
    [
        (_AllowanceMachine, Allowance, "settle"),
        (_CircuitMachine, Circuit, "drop"),
        (_SlotsMachine, Slots, "release"),
    ],
)
def test_a_machine_finds_a_policy_that_forgets(machine, policy, broken, monkeypatch):
    """What is given back to it is not there."""
    monkeypatch.setattr(policy, broken, lambda *_, **__: None)
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the machine says
        run_state_machine_as_test(machine, settings=SMALL)


def test_fuzzing_finds_a_reader_that_trusts():
    """One that takes the type of a field for granted, and one that raises the wrong error."""
    trusting = Reader(READERS["a body"].given, lambda value: value["usage"], (KeyError,))
    with pytest.raises(TypeError):
        fuzzed(trusting, database=None)()
    checked(READERS["a stream"], [b"data: {", b"\n\n"])
    checked(READERS["an order"], {"nothing": 1})


def test_fuzzing_finds_a_key_that_is_shown(monkeypatch):
    """The mask is put out of action."""
    monkeypatch.setattr(KeyMask, "text", lambda _, text: text)
    with pytest.raises(AssertionError):
        checked(READERS["a text with a key"], "x")


def test_a_soak_finds_what_is_kept_of_each_call():
    """One list for each call."""
    kept = []

    async def send(number):
        kept.append([number])

    soak = Soak(send, lambda number: number, workers=3)
    run_virtually(lambda: soak.run(5_000))
    assert soak.ended == {"answered": 5_000}
    assert soak.grown >= 4_000


def test_power_cuts_find_a_row_that_is_called_safe_too_early(tmp_path):
    """It is said to be safe before it is written."""
    run = written(tmp_path, 3)
    run.acked = [0, 0, 0]
    found = opened(tmp_path / "cut", run.base, run.log[:HEADER])
    assert found[:3] != run.safe_at(HEADER)


def test_liveness_finds_a_learner_that_stays_shut(monkeypatch):
    """After an outage nothing is asked any more."""
    driver = Driver()
    driver.run(60.0, lambda *_: False)
    monkeypatch.setattr(Learner, "ready_at", lambda *_: math.inf)
    driver.run(270.0, everything)
    assert driver.run(30.0, everything) < 0.9 * MOST


def test_the_canary_is_found():
    """Where a key is shown, it is seen."""
    assert quoted_in(f"a bad key: {CANARY}")
    assert not quoted_in("a bad key")


TESTS = {
    "fine": (
        "from tests import tally\ndef test_it(): tally.tried('things', 7); tally.reached('odd')\n"
    ),
    "fails": "def test_it(): assert False\n",
    "empty": "",
}


@pytest.mark.parametrize(("name", "bad"), [("fine", 0), ("fails", 1), ("empty", 1)])
def test_the_table_shows_what_went_wrong(name, bad, tmp_path):
    """A test that fails, and a line of which nothing ran."""
    test = tmp_path / f"test_{name}.py"
    test.write_text(TESTS[name])
    result = proof.run(proof.Line(name, [str(test)]))
    assert len(result.violations) == bad
    shown = proof.table([result])
    assert f"| {bad} |" in shown
    if name == "fine":
        assert "| fine | 7 things | 0 | 1 odd |" in shown


def test_every_line_has_tests():
    """The files that a line names are there."""
    for line in proof.LINES:
        assert all((proof.ROOT / each).exists() for each in line.tests), line.name
