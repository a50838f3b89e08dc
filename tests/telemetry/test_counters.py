"""Counters: what is added up from the events."""

from __future__ import annotations

import pytest
from fakes import all_at_once

from resilient_infe import ErrorClassifier, Kind, Retry, Stack
from resilient_infe.telemetry import Counters
from resilient_infe.testing import Faults, InfeModel, InProcessInfe


def test_counts_add_up(run):
    """Calls, attempts, tokens and seconds are those that the server saw."""
    model = InfeModel(faults=Faults(script=[502, 401]), latency=0.5)
    counters = Counters()
    stack = Stack(Retry(uniform=lambda: 0.5), ErrorClassifier(), listeners=[counters])
    payload = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}
    run(lambda: all_at_once(stack.around(InProcessInfe(model)), [payload] * 4))
    counts = counters.snapshot()
    assert counts.calls == {Kind.OK: 3, Kind.AUTH: 1}
    assert counts.attempts == {Kind.OK: 3, Kind.AUTH: 1, Kind.TRANSIENT: 1}
    assert counts.events["retry.scheduled"] == 1
    assert counts.tokens == model.books.tokens
    assert counts.sent_for == pytest.approx(5 * 0.5)
    assert counts.waited == pytest.approx(0.5)
