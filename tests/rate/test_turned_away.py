"""A waiting call that a day has no room for leaves its queue as if it had never come."""

from __future__ import annotations

import pytest

from resilient_infe import Account, Allowance
from resilient_infe.core.queue import BATCH, INTERACTIVE, NORMAL, Standing
from resilient_infe.rate.costs import costs_of


class Day:
    """A limit whose day has room for small calls alone, with an account around or without."""

    def __init__(self, kind):
        """Spend most of the day."""
        days = {"tokens_per_day": 100}
        self.member = Allowance(600, burst=0.1, **(days if kind != "account" else {}))
        self.account, self.now = None, 0.0
        if kind != "none":
            self.account = Account(600, burst=0.1, **(days if kind == "account" else {}))
        limit = self.account or self.member
        for tokens in (95.0, 0.0):
            costs = costs_of(tokens, None)
            if self.account is None:
                limit.admit(costs, 0.0, 0, INTERACTIVE)
            else:
                limit.admit(self.member, costs, 0.0, 0, INTERACTIVE)

    def wait(self, rank, tenant=None, tokens=0.0):
        """Queue one."""
        standing = Standing(rank, tenant)
        if self.account is not None:
            self.account.await_in(self.member, standing)
        return self.member.enqueue(costs_of(tokens, None), standing=standing)

    def run(self, until):
        """Poll at each promised instant; return those that were granted, and those turned away."""
        limit, now = self.account or self.member, self.now
        found = list(limit.poll(now))
        while limit.due is not None and max(now, limit.due) < until:
            now = max(now, limit.due)
            found += list(limit.poll(now))
        self.now = until
        return [each for each in found if each.granted], [each for each in found if each.gone]


KINDS = pytest.mark.parametrize("kind", ["none", "model", "account"])


@KINDS
def test_it_takes_nothing_of_the_trickle_of_its_class(kind):
    """Rows that were turned away do not delay the next one."""
    day = Day(kind)
    for _ in range(200):
        day.wait(INTERACTIVE)
    huge = [day.wait(BATCH, tokens=50.0) for _ in range(5)]
    rows = [day.wait(BATCH) for _ in range(50)]
    granted, gone = day.run(3.0)
    assert gone == huge
    assert all(each.full_until > 3.0 for each in huge)
    ranks = [each.standing.rank for each in granted]
    assert ranks.index(BATCH) <= 10
    assert [each for each in granted if each in rows] == rows[: ranks.count(BATCH)]
    assert ranks.count(BATCH) == pytest.approx(len(ranks) / 10, abs=1)


@KINDS
def test_it_takes_nothing_of_the_share_of_its_tenant(kind):
    """The tenant's next call has its turn."""
    day = Day(kind)
    others = [day.wait(NORMAL, "b") for _ in range(30)]
    huge = [day.wait(NORMAL, "a", 50.0) for _ in range(5)]
    small = [day.wait(NORMAL, "a") for _ in range(5)]
    granted, gone = day.run(1.2)
    assert gone == huge
    assert len([each for each in granted if each in small]) == 5
    assert abs(len([each for each in granted if each in others]) - 5) <= 2


@KINDS
def test_those_that_are_turned_away_are_not_left_in_any_queue(kind):
    """Also if nothing else waits, and the day is resized meanwhile."""
    day = Day(kind)
    limits = [day.member] + ([day.account.allowance] if day.account else [])
    huge = [day.wait(rank, tokens=50.0) for rank in (BATCH, INTERACTIVE, NORMAL, BATCH)]
    small = day.wait(BATCH)
    granted, gone = day.run(10.0)
    assert (granted, set(gone)) == ([small], set(huge))
    late = [day.wait(BATCH, "a"), day.wait(INTERACTIVE, "b", 3.0)]
    limits[-1 if kind == "account" else 0].resize(10.0, tokens_per_day=96.0)
    granted, gone = day.run(90_000.0)
    assert (granted, gone) == ([late[0]], [late[1]])
    assert [each.waiting for each in limits] == [0] * len(limits)
    assert all(cost == 0.0 for each in limits for cost in each.line.queued)
