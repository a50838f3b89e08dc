"""A soak: very many calls through one stack, none lost, none twice, and the memory flat."""

from __future__ import annotations

import asyncio

import pytest
import tally
from loopback import ASK, KEY
from soak import FIRST, ROUNDS, Soak, at_rest, counted

from resilient_infe import InfeTransport, presets
from resilient_infe.rate.learning.sends import KEPT
from resilient_infe.testing import Faults, InfeModel, InProcessInfe, run_virtually
from resilient_infe.testing.server import InfeServer

VIRTUAL = tally.scaled(500_000)
LOOPBACK = tally.scaled(100_000)

MINUTE = 60.0

MOST_GROWN = 30_000
"""Blocks: what the learner thins out at once. One kept for each call would be 80,000 and more."""


class Tenfold(asyncio.SelectorEventLoop):
    """A loop whose clock runs ten times as fast: what is kept of a minute goes after 6 s."""

    def time(self):
        """Return ten times the seconds."""
        return 10.0 * super().time()


def holds(soak, stack, calls):
    """Check what holds after a soak."""
    assert soak.ended.total() == calls
    assert counted(stack)[0] == calls
    assert counted(stack)[1] == soak.ended["answered"]
    assert at_rest(stack)
    # The first rounds fill what is kept of a minute, and of the last sends.
    if soak.seconds > MINUTE and FIRST * calls > ROUNDS * KEPT:
        assert soak.grown <= MOST_GROWN, f"blocks after each round: {soak.blocks}"
        tally.tried("rounds of flat memory", ROUNDS - FIRST)
    else:
        assert tally.SCALE < 1.0, f"a round took {soak.seconds} s: memory was not looked at"
    tally.tried("calls", calls)
    for name, number in soak.ended.items():
        if name != "answered":
            tally.reached(name, number)


def test_calls_in_virtual_time():
    """2 % errors, an outage and a limit; hours of them."""
    faults = Faults(rates={500: 0.01, 502: 0.01, 429: 0.001}, outages=[(60.0, 90.0)])
    rate = VIRTUAL / 20  # so that what is kept of a minute is a small part of a round
    model = InfeModel(requests_per_minute=rate, latency=0.1, faults=faults)
    stack = presets.batch(requests_per_minute=rate, concurrency=256, log=False)
    soak = Soak(stack.around(InProcessInfe(model)), lambda _: ASK, forget=model.books.answers.clear)
    run_virtually(lambda: soak.run(VIRTUAL))
    holds(soak, stack, VIRTUAL)
    assert model.books.answered == soak.ended["answered"]
    assert model.books.peak_per_minute <= rate


@pytest.mark.network
def test_calls_over_loopback():
    """The same over sockets, with connections that are cut."""
    stack = presets.service(concurrency=64, log=False)
    model = InfeModel(latency=0.0, faults=Faults(rates={502: 0.005}, breaks={"cut": 0.002}))

    async def main():
        async with (
            InfeServer(model).running() as url,
            InfeTransport(KEY, base_url=url) as transport,
        ):
            send = stack.around(transport)
            soak = Soak(send, lambda _: ASK, workers=100, forget=model.books.answers.clear)
            await soak.run(LOOPBACK)
            return soak

    with asyncio.Runner(loop_factory=Tenfold) as runner:
        soak = runner.run(main())
    holds(soak, stack, LOOPBACK)
    assert model.books.answered == soak.ended["answered"]
