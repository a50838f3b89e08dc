"""Hours of a stack in a simulated world that is drawn from a seed, with the rules checked."""

from __future__ import annotations

import hashlib
import random

from rules import Rules

from resilient_infe import Circuit, CircuitBreaker, Hedge, Retry, Stack, presets
from resilient_infe.testing import (
    Broken,
    Errors,
    Limit,
    OtherUsers,
    Rows,
    Scenario,
    Slow,
    Stalls,
    Traffic,
    simulate,
)

HOUR = 3_600.0


def weather(dice, seconds, even):
    """Draw what happens to a server: one thing every five minutes."""
    found = []
    for begin in range(60, int(seconds) - 120, 300):
        start = begin + 120.0 * dice.random()
        end = start + dice.choice((5.0, 30.0, 90.0))
        share = 1.0 if even else dice.choice((0.2, 0.5))
        kinds = [
            Errors(start, end, 502, share=share),
            Broken(start, end, dice.choice(("cut", "garbage", "silent")), share=share),
            Slow(start, end),
        ]
        if not even:
            kinds += [
                Errors(start, end, 429, share=share),
                Errors(start, end, 503, share=share, retry_after=dice.choice((2.0, 20.0))),
                Limit(start, end, requests_per_minute=dice.choice((30.0, 300.0))),
                Stalls(start, end, shortest=5.0, longest=30.0),
                OtherUsers(start, end),
            ]
        found.append(dice.choice(kinds))
    return found


def drawn_world(seed, seconds, even):
    """Draw a workload, a scenario, and what makes a stack of its rules.

    In an even world nothing is drawn for a single call, and no call is asked to wait: two that wake
    at the same instant, whose order trio leaves open, can change places and nothing else changes.
    """
    dice = random.Random(f"world {seed}")
    per_minute = dice.choice((60.0, 240.0, 600.0))
    slots = dice.choice((2, 8, 64))
    batch, hedged = even or dice.random() < 0.5, dice.random() < 0.3
    scenario = Scenario(
        requests_per_minute=per_minute * dice.choice((1.0, 2.0) if even else (0.9, 1.0, 2.0)),
        style=dice.choice(("sliding", "bucket", "fixed")),
        retry_after="none" if even else dice.choice(("none", "exact", "rounded")),
        headers=dice.random() < 0.3,
        latency=dice.choice((0.1, 0.7)),
        spread=0.0 if even else 0.4,
        seconds_per_token=0.0 if even else 0.02,
        happenings=weather(dice, seconds, even),
    )
    share = dice.choice((0.5, 0.9, 1.2))
    work = Traffic(share * per_minute / 60.0, seconds)
    if batch and dice.random() < 0.5:
        work = Rows(int(0.9 * per_minute * seconds / 60.0), workers=2 * slots)

    def make(rules):
        if batch:
            made = presets.batch(requests_per_minute=per_minute, concurrency=slots, log=False)
        else:
            made = presets.service(
                requests_per_minute=per_minute,
                concurrency=slots,
                deadline=rules.deadline,
                circuit=Circuit(failure_ratio=0.5, minimum_calls=10, probes=rules.probes),
                log=False,
            )
        layers = list(made.layers)
        if even:
            layers = [_without_jitter(each) for each in layers]
        if hedged:
            layers.insert([type(each).__name__ for each in layers].index("Retry") + 1, Hedge(3.0))
        return Stack(*layers, rules.watch, listeners=[rules])

    deadline = None if batch else dice.choice((20.0, 120.0))
    rules = {"per_minute": per_minute, "slots": slots, "deadline": deadline}
    return work, scenario, make, {**rules, "in_order": not hedged}


def _without_jitter(layer):
    if isinstance(layer, (Retry, CircuitBreaker)):
        layer._uniform = lambda: 0.5
    return layer


def lived(seed, seconds=HOUR, backend="asyncio", *, even=False, break_it=lambda stack: stack):
    """Run a world; returns its rules, with what they found, and a hash of what happened when."""
    work, scenario, make, told = drawn_world(seed, seconds, even)
    rules = Rules(**told)
    rules.stack = break_it(make(rules))
    longest = 4 * seconds + HOUR
    record = simulate(rules.stack, work, scenario, longest=longest, backend=backend, seed=seed)
    rules.at_rest()
    if "unfinished" in record.failed:
        rules.violations.append("a call hangs")
    course = sorted(f"{at} {what}" for at, what, _ in rules.course)
    return rules, hashlib.sha256("\n".join(course).encode()).hexdigest()
