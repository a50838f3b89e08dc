"""Ten thousand calls against the stand-in: nothing lost, nothing twice, no limit broken."""

from __future__ import annotations

from collections import Counter

import pytest
from fakes import Remember, all_at_once

from resilient_infe import Kind, presets
from resilient_infe.testing import Faults, InfeModel, InProcessInfe


def payload(number):
    """Return one request."""
    return {"model": "infe-pulse", "messages": [{"role": "user", "content": str(number)}]}


@pytest.mark.parametrize(
    ("style", "calls", "limit"), [("bucket", 10_000, 3_000.0), ("sliding", 2_000, 600.0)]
)
def test_ten_thousand_calls(style, calls, limit, run):
    """5 % errors, 429s, broken replies, an outage: one outcome per call, and all is home."""
    model = InfeModel(
        requests_per_minute=limit,
        style=style,
        burst=1.0,
        faults=Faults(
            rates={500: 0.02, 502: 0.02, 429: 0.01},
            breaks={"cut": 0.005, "html": 0.005},
            outages=[(3.0, 6.0)],
        ),
        latency=0.02,
        seconds_per_token=0.001,
        seed=7,
    )
    seen = Remember()
    stack = presets.batch(requests_per_minute=limit, concurrency=256, listeners=[seen])
    send = stack.around(InProcessInfe(model))
    results = run(lambda: all_at_once(send, (payload(n) for n in range(calls))))
    assert all(isinstance(result, dict) for result in results)
    finished = seen.named("call.finished")
    assert len(finished) == len({event.request_id for event in finished}) == calls
    assert Counter(event.kind for event in finished) == {Kind.OK: calls}
    books = model.books
    assert books.answered == calls
    assert books.sends == sum(event.attempts for event in finished) == stack.statistics().attempts
    assert books.summary()["answered_twice"] == 0
    assert calls > limit, "the calls must not all fit into one window"
    assert books.peak_arrivals_per_minute <= limit
    drawn = 0.01 * books.admitted  # the 429s that are noise; the limit itself must give none
    assert books.rejected <= 1.5 * drawn
    now = stack.statistics()
    assert (now.in_flight, now.waiting) == (0, 0)
    assert all(slots.held == 0 for slots in now.slots.values())
    assert all(each.outstanding == 0 for each in now.allowances.values())
