"""Draws what each layer is for: the same calls with and without it, one above the other.

The pictures stand in docs/pictures, and the pages of the layers show them. They are simulations in
virtual time, so every machine draws the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resilient_infe import (
    AttemptTimeout,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    RateLimiter,
    Retry,
    RetryBudget,
    Stack,
    presets,
)
from resilient_infe.testing import Broken, Errors, Rows, Scenario, Slow, Traffic, simulate
from resilient_infe.testing.workload import Workload

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

Made = Callable[[], Stack]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Stacks in one scenario, by their names.

    Attributes:
        file: the name of the picture.
        workload: what is sent.
        scenario: what the server does.
        stacks: makes each stack, by the name that the picture gives it.
    """

    file: str
    workload: Workload
    scenario: Scenario
    stacks: dict[str, Made]

    def draw(self) -> str:
        """Simulate them, write the picture, and return what came of each in a line."""
        found = {
            name: simulate(made, self.workload, self.scenario) for name, made in self.stacks.items()
        }
        (name, first), *others = found.items()
        first.plot(PICTURES / self.file, name, **dict(others))
        said = (
            f"  {name}: {each.answered:,} of {len(each.calls):,} answered, "
            f"{len(each.attempts):,} sent"
            for name, each in found.items()
        )
        return "\n".join((self.file, *said))


def _impatient(budget: RetryBudget | None = None) -> Stack:
    return Stack(Deadline(20.0), Retry(4, budget=budget), ErrorClassifier(), AttemptTimeout(2.0))


COMPARISONS = (
    # What the first page shows: a limit, and ten seconds in which every answer is an error.
    Comparison(
        "start.svg",
        Rows(600, workers=600),
        Scenario(requests_per_minute=600, style="bucket", happenings=[Errors(20, 30)]),
        {
            "600 calls at once, up to four attempts each": lambda: Stack(
                Retry(4), ErrorClassifier()
            ),
            "the same calls with presets.batch": lambda: presets.batch(
                requests_per_minute=600, log=False
            ),
        },
    ),
    # Five slow seconds fill the server with attempts whose callers have left; every retry adds one.
    Comparison(
        "retry-budget.svg",
        Traffic(40.0, 120),
        Scenario(capacity=40, seconds_per_token=0.0, happenings=[Slow(20, 25, 4)]),
        {
            "Retry(4) without a budget": _impatient,
            "with RetryBudget(0.1)": lambda: _impatient(RetryBudget(0.1)),
        },
    ),
    Comparison(
        "circuit-breaker.svg",
        Traffic(10.0, 90),
        Scenario(happenings=[Errors(20, 50)]),
        {
            "without a circuit breaker": lambda: Stack(Retry(4), ErrorClassifier()),
            "with CircuitBreaker()": lambda: Stack(Retry(4), CircuitBreaker(), ErrorClassifier()),
        },
    ),
    Comparison(
        "rate-limiter.svg",
        Rows(900, workers=100),
        Scenario(requests_per_minute=300, retry_after="rounded", charge_rejected=True),
        {
            "retries alone": lambda: Stack(Retry(20), ErrorClassifier()),
            "with RateLimiter(requests_per_minute=300)": lambda: Stack(
                Retry(20), RateLimiter(requests_per_minute=300), ErrorClassifier()
            ),
        },
    ),
    Comparison(
        "concurrency-limiter.svg",
        Rows(2_000, workers=400),
        Scenario(capacity=16, seconds_per_token=0.0),
        {
            "400 workers": lambda: Stack(Retry(4), ErrorClassifier(), AttemptTimeout(5.0)),
            "400 workers, ConcurrencyLimiter(16)": lambda: Stack(
                Retry(4), ConcurrencyLimiter(16), ErrorClassifier(), AttemptTimeout(5.0)
            ),
        },
    ),
    # A queue has formed when the server dies. Inside, the breaker stops the queue too.
    Comparison(
        "order.svg",
        Rows(600, workers=600),
        Scenario(requests_per_minute=600, happenings=[Errors(10, 50)]),
        {
            "the breaker outside of the rate limiter": lambda: Stack(
                Retry(10, wait_out_refusals=True),
                CircuitBreaker(),
                RateLimiter(requests_per_minute=600),
                ErrorClassifier(),
                strict=False,
            ),
            "inside, as in the usual order": lambda: Stack(
                Retry(10, wait_out_refusals=True),
                RateLimiter(requests_per_minute=600),
                CircuitBreaker(),
                ErrorClassifier(),
            ),
        },
    ),
    Comparison(
        "attempt-timeout.svg",
        Traffic(5.0, 60),
        Scenario(happenings=[Broken(10, 40, share=0.2)]),
        {
            "without a timeout": lambda: Stack(Deadline(60.0), Retry(4), ErrorClassifier()),
            "with AttemptTimeout(10)": lambda: Stack(
                Deadline(60.0), Retry(4), ErrorClassifier(), AttemptTimeout(10.0)
            ),
        },
    ),
)


def main() -> None:
    """Draw every picture, and print what came of each stack."""
    PICTURES.mkdir(exist_ok=True)
    for each in COMPARISONS:
        print(each.draw())


if __name__ == "__main__":
    main()
