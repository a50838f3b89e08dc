"""The stateful properties of the suite, each with 1,000 machines of 50 steps."""

from __future__ import annotations

import tally
from hypothesis import HealthCheck, settings

from tests.circuit.test_circuit import _CircuitMachine
from tests.rate.test_allowance import _AllowanceMachine
from tests.slots.test_slots import _SlotsMachine

MACHINES = tally.scaled(1_000)
LONG = settings(
    max_examples=MACHINES,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def counted(machine):
    """Return a machine that counts itself and its steps."""

    class Counted(machine):
        def teardown(self):
            super().teardown()
            tally.tried("machines")

    Counted.__name__ = Counted.__qualname__ = machine.__name__
    Counted.TestCase.settings = LONG
    return Counted.TestCase


class TestAllowance(counted(_AllowanceMachine)):
    """See tests/rate/test_allowance.py."""


class TestCircuit(counted(_CircuitMachine)):
    """See tests/circuit/test_circuit.py."""


class TestSlots(counted(_SlotsMachine)):
    """See tests/slots/test_slots.py."""
