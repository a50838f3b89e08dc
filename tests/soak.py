"""Very many calls through one stack, with the memory that they leave behind."""

from __future__ import annotations

import gc
import sys
from collections import Counter

import anyio

from resilient_infe.core.verdict import Kind

ROUNDS = 10

FIRST = 2
"""Rounds in which windows, ledgers and caches fill."""


class Soak:
    """Sends rounds of calls, and counts the blocks that Python holds after each.

    Args:
        send: sends a call.
        make: makes the payload of a call from its number.
        workers: the calls at once.
        forget: clears what the server under test keeps of each call, after each round.
    """

    def __init__(self, send, make, workers=200, forget=lambda: None):
        self.send, self.make, self.workers, self.forget = send, make, workers, forget
        self.ended: Counter[str] = Counter()
        self.blocks: list[int] = []
        self.seconds = 0.0  # that a round took, by the clock of the loop

    async def run(self, calls):
        """Send all calls, in rounds."""
        start = anyio.current_time()
        for number in range(ROUNDS):
            rows = iter(range(number * calls // ROUNDS, (number + 1) * calls // ROUNDS))
            async with anyio.create_task_group() as group:
                for _ in range(self.workers):
                    group.start_soon(self._work, rows)
            self.forget()
            gc.collect()
            self.blocks.append(sys.getallocatedblocks())
        self.seconds = (anyio.current_time() - start) / ROUNDS

    async def _work(self, rows):
        for number in rows:
            try:
                await self.send(self.make(number))
            except Exception as error:
                self.ended[type(error).__name__] += 1
            else:
                self.ended["answered"] += 1

    @property
    def grown(self):
        """Return how many blocks more are held after the last round than after the first ones."""
        return self.blocks[-1] - self.blocks[FIRST - 1]


def at_rest(stack):
    """Say whether nothing is in flight, and every slot, reservation and probe is home."""
    seen = stack.statistics()
    held = [each.held for each in seen.slots.values()]
    held += [each.outstanding for each in seen.allowances.values()]
    held += [each.probes_out for each in seen.circuits.values()]
    return (seen.in_flight, seen.waiting) == (0, 0) and not any(held)


def counted(stack):
    """Return how many calls the stack says that it has ended, each with one outcome."""
    return sum(stack.statistics().outcomes.values()), stack.statistics().outcomes.get(Kind.OK, 0)
