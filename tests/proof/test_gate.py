"""The long form of the gate's tests: what is used of a limit whose server asks to wait."""

from __future__ import annotations

import random

import pytest

from benchmarks.gym.ours import Ours
from benchmarks.gym.servers import Answer
from benchmarks.gym.world import Network, World
from resilient_infe import Allowance
from resilient_infe.rate.learning.learner import Learner
from resilient_infe.testing.limits import make_limit

PER_MINUTE = 600.0
SECONDS, WARM_UP = 1_800, 60


@pytest.fixture(autouse=True)
def _at_rest(monkeypatch):
    """Keep the learner at rest below a declared limit: this is about the gate alone."""
    monkeypatch.setattr(Learner, "rejected_at_rest", lambda *_: None)


class Server:
    """A bucket of one second that states the same hint at each 429, and some 429s by chance."""

    def __init__(self, hint, chance=0.0, seed=0):
        self.limit = make_limit("bucket", PER_MINUTE, 60.0, 1.0)
        self.hint, self.chance, self.random = hint, chance, random.Random(seed)

    def handle(self, _, now):
        """Answer one request."""
        if self.random.random() < self.chance or not self.limit.fits(1.0, now):
            return Answer(False, self.hint)
        self.limit.take(1.0, now)
        return Answer(True)


def used(declared, server, seed=1):
    """Return the share of the limit that is used, and the share of calls that are refused."""
    sender = Ours(Allowance(declared))
    hour = World(server, [sender], Network(median=1.0), 0.0, seed).run(SECONDS)
    [books] = hour.books
    accepted, rejected = sum(books.accepted[WARM_UP:]), sum(books.rejected[WARM_UP:])
    share = accepted / ((SECONDS - WARM_UP) * PER_MINUTE / 60.0)
    return share, rejected / (accepted + rejected)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("hint", [1.0, 5.0, 60.0])
def test_a_limit_declared_slightly_too_high_is_used(hint, seed):
    """2 % too high with hints of any length: at least 99 % is used, at 3 429s in a thousand."""
    share, refused = used(1.02 * PER_MINUTE, Server(hint, seed=seed), seed)
    assert share >= 0.99
    assert refused <= 0.005


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("hint", [1.0, 12.0, 60.0])
@pytest.mark.parametrize("chance", [0.001, 0.01, 0.05])
def test_random_429s_stop_nobody(chance, hint, seed):
    """They cost their own share and 1 % more at most, however long the hints. The rate is 98 %."""
    share, _ = used(PER_MINUTE, Server(hint, chance, seed), seed)
    assert share >= 0.98 * (1.0 - chance) - 0.01
