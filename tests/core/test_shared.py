"""A deep copy shares what bounds calls: no framework doubles a limit by copying its settings."""

from __future__ import annotations

import copy

import pytest
from fakes import FakeServer, all_at_once

from resilient_infe import (
    Allowance,
    Circuit,
    ConcurrencyLimiter,
    Keyed,
    RateLimiter,
    RetryBudget,
    Slots,
    presets,
)


@pytest.mark.parametrize(
    "shared", [Slots(1), Allowance(60.0), Circuit(), RetryBudget(), Keyed(Circuit), presets.batch()]
)
def test_a_deep_copy_is_the_object_itself(shared):
    """Whatever it stands in, and a shallow one, too."""
    assert copy.copy(shared) is shared
    assert copy.deepcopy({"settings": [shared]})["settings"][0] is shared


def test_a_deep_copy_of_a_layer_shares_its_policy():
    """The layer may be another object; the limit is the same."""
    for layer, policy in ((ConcurrencyLimiter(2), "slots"), (RateLimiter(), "allowances")):
        copied = copy.deepcopy(layer)
        assert getattr(copied, policy).one is getattr(layer, policy).one


def test_two_copies_of_a_transport_send_no_more_than_one(run):
    """A resilient transport that is copied goes through the same slots."""
    server = FakeServer(latency=1.0)
    send = presets.service(concurrency=2).around(server)
    both = [send, copy.deepcopy(send)]
    run(lambda: all_at_once(lambda number: both[number % 2](number), range(8)))
    assert server.peak == 2
