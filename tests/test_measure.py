"""The benchmark's arithmetic: spreads, ratios within a round, and rounds put together."""

import asyncio

import pytest

from benchmarks import fresh
from benchmarks.measure import Cost, Spread, Table


def _table(**options):
    table = Table("t", "nothing", "floor", **options)
    for slow in (1.0, 2.0, 4.0):  # a machine that gets slower and slower
        table.rounds.append(
            {
                "nothing": Cost(1.0 * slow, 1.0),
                "floor": Cost(2.0 * slow, 2.0),
                "ours": Cost(4.0 * slow, 5.0),
            }
        )
    return table


def test_a_ratio_is_formed_within_a_round():
    """However much the machine slows down meanwhile, the ratio is the same."""
    table = _table()
    assert table.ratio("ours") == Spread(3.0, 3.0, 3.0)
    assert table.ratio("floor", "ours").median == pytest.approx(1 / 3)
    assert table.cpu("ours").median == 6.0
    assert table.wall("ours") == Spread(4.0, 4.0, 4.0)
    assert table.names() == ["floor", "ours"]


def test_a_subject_may_have_a_base_of_its_own():
    """What is taken off can differ from subject to subject."""
    table = _table(bases={"ours": "floor"})
    assert table.ratio("ours") == Spread(2.0, 2.0, 2.0)


def test_what_is_cheaper_than_nothing_divides_nothing_by_zero():
    """Noise below the base is taken as next to nothing."""
    table = Table("t", "nothing", "floor")
    for _ in range(2):
        table.rounds.append({"nothing": Cost(2.0, 0.0), "floor": Cost(1.0, 0.0)})
    assert table.ratio("floor").median == 1.0


async def _measured(url, rounds):
    table = Table(url, None, "floor")
    for number in range(rounds):
        table.rounds.append({"floor": Cost(1.0 + number, 1.0)})
    return table


def test_the_rounds_of_several_processes_are_one_table(monkeypatch):
    """Each process measures its share, rounded up, and the table has the rounds of all."""
    shares = []

    def alone(measure, *args):
        shares.append(args)
        return asyncio.run(measure(*args))

    monkeypatch.setattr(fresh, "alone", alone)
    table = fresh.table(_measured, "url", rounds=7, processes=3)
    assert shares == [("url", 3)] * 3
    assert [each["floor"].cpu for each in table.rounds] == [1.0, 2.0, 3.0] * 3
    assert (table.title, table.reference) == ("url", "floor")


def test_a_process_measures_twice_at_least_and_none_means_this_one(monkeypatch):
    """A median needs two rounds of each process; with no others, all are measured here."""
    monkeypatch.setattr(fresh, "alone", lambda measure, *args: asyncio.run(measure(*args)))
    assert len(fresh.table(_measured, "url", rounds=3, processes=5).rounds) == 10
    monkeypatch.setattr(fresh, "alone", None)
    assert len(fresh.table(_measured, "url", rounds=3, processes=0).rounds) == 3
