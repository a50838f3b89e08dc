"""The rules of a stack, checked while it runs: at each event, and at each attempt of a call.

Stands in a stack twice: as a listener, and as its innermost layer, which sees each attempt as the
server would. All times are those of the loop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

import tally

from resilient_infe import aio

ROUNDING = 1e-6
"""Seconds that are no difference."""

RARE = {
    "circuit.opened", "circuit.half_opened", "circuit.closed", "circuit.throttled",
    "rate.gate_closed", "retry.stopped", "slots.narrowed", "rate.too_large", "hedge.won",
    "fallback.tried",
}  # fmt: skip


def _instant(now):
    """Return the microsecond; a multiple of a power of two never lies between two of them."""
    return round(1e6 * now + 0.31)


class Rules:
    """Checks a stack of one partition.

    Args:
        per_minute: the declared limit of requests, or None.
        slots: the attempts that may be in progress at once, hedges included.
        probes: the attempts that a half-open circuit may let through at once.
        deadline: seconds that a call may take, or None.
        max_hint: a hint up to this many seconds is a floor for the call that was told.
        in_order: whether calls that are sent for the first time, and were not refused by the stack,
            must be sent in the order in which they came, until the server answers with a 429.
    """

    def __init__(
        self, *, per_minute, slots, probes=3, deadline=None, max_hint=300.0, in_order=True
    ):
        self.per_minute, self.slots, self.deadline = per_minute, slots, deadline
        self.probes, self.max_hint, self.in_order = probes, max_hint, in_order
        self.stack = None
        self.sends: list[float] = []
        self.in_progress = 0
        self.started: dict[str, float] = {}
        self.ended: Counter[str] = Counter()
        self.before, self.furthest = 0.0, (0.0, 0.0)
        self.again: set[str] = set()
        self.not_before: dict[str, float] = {}
        self.checks = 0
        self.violations: list[str] = []
        self.course: list[tuple] = []

    def __call__(self, event):
        """Check at an event."""
        now = aio.current().now()
        self.course.append((_instant(now), event.name, getattr(event, "request_id", None)))
        if event.name in RARE:
            tally.reached(event.name)
        if event.name == "call.started":
            self._holds(event.request_id not in self.started, "a call started twice")
            self.started[event.request_id] = now
        elif event.name == "retry.scheduled":
            self.again.add(event.request_id)
        elif event.name == "call.finished":
            self._ended(event, now)
        self._standing()

    def _ended(self, event, now):
        self.ended[event.request_id] += 1
        self._holds(self.ended[event.request_id] == 1, "a call ended twice")
        took = now - self.started[event.request_id]
        if self.deadline is not None:
            self._holds(took <= self.deadline + ROUNDING, "a call outlived its deadline")

    async def watch(self, call, call_next):
        """Check an attempt; the innermost layer of the stack."""
        now = aio.current().now()
        self._sent(call, now)
        self.in_progress += 1
        self._standing()
        try:
            return await call_next(call)
        finally:
            self.in_progress -= 1
            self._told(call, aio.current().now())

    def _sent(self, call, now):
        self.course.append((_instant(now), "sent", call.request_id))
        self._holds(not self.ended[call.request_id], "sent after its call had ended")
        floor = self.not_before.get(call.request_id, 0.0)
        self._holds(now >= floor - ROUNDING, "sent before its hint was over")
        if self.in_order and call.request_id not in self.again:
            came = self.started[call.request_id]
            if now > self.furthest[0]:
                self.before = self.furthest[1]  # of one instant, trio runs them in any order
            self._holds(came >= self.before, "a first attempt overtook another")
            self.furthest = now, max(came, self.furthest[1])
        self.sends.append(now)
        if self.per_minute is not None:
            within = len(self.sends) - bisect_right(self.sends, now - 60.0 + ROUNDING)
            self._holds(within <= self.per_minute, f"{within} sent within a minute")

    def _told(self, call, now):
        reply = call.reply
        if reply is not None and reply.status == 429:
            self.in_order = False  # a shut gate asks with a call that was not refused before
        hint = None if reply is None else reply.headers.get("retry-after")
        if hint is not None and 0.0 < float(hint) <= self.max_hint:
            self.not_before[call.request_id] = now + float(hint)
            tally.reached("hint")

    def _standing(self):
        """Check what holds at any moment."""
        self.checks += 1
        self._holds(0 <= self.in_progress <= self.slots, f"{self.in_progress} in progress")
        if self.stack is None:
            return
        seen = self.stack.statistics()
        for each in seen.slots.values():
            self._holds(0 <= each.held <= self.slots, f"{each.held} slots are held")
            if each.waiting:
                tally.reached("waiting for a slot")
        for each in seen.allowances.values():
            self._holds(each.outstanding >= 0, "more came back than was reserved")
        for each in seen.circuits.values():
            self._holds(0 <= each.probes_out <= self.probes, f"{each.probes_out} probes are out")

    def at_rest(self):
        """Check what holds after the last call: each ended once, and nothing is held."""
        self._holds(self.started.keys() == self.ended.keys(), "a call never ended")
        seen = self.stack.statistics()
        waiting = seen.in_flight, seen.waiting, self.in_progress
        self._holds(waiting == (0, 0, 0), f"in flight, waiting, in progress: {waiting}")
        held = [each.held for each in seen.slots.values()]
        held += [each.outstanding for each in seen.allowances.values()]
        held += [each.probes_out for each in seen.circuits.values()]
        self._holds(not any(held), f"slots, reservations, probes not given back: {held}")

    def _holds(self, condition, words):
        """Note a rule that is broken: an exception would be taken for an answer."""
        if not condition:
            self.violations.append(words)
