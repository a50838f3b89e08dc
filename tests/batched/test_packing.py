"""The pure half: what travels together, and how a refused request is divided."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import errors
from resilient_infe.batched.embeddings import joined, parted
from resilient_infe.batched.packing import FIRST_PATIENCE, Entry, Packing


def filled(packing, tokens, now=0.0):
    """Let items join; return the entries and the parcels that were full."""
    entries = [Entry(number, cost) for number, cost in enumerate(tokens)]
    return entries, [parcel for entry in entries for parcel in packing.add(entry, now)]


@given(st.lists(st.floats(0, 50), max_size=60), st.integers(1, 9), st.floats(1, 100))
def test_parcels_keep_the_order_and_the_bounds(tokens, max_items, max_tokens):
    """Each item travels once, in order, and no parcel is over a bound but by one large item."""
    packing = Packing(max_items, max_tokens, 0.02)
    entries, parcels = filled(packing, tokens)
    parcels += packing.take()
    assert [entry for parcel in parcels for entry in parcel.entries] == entries
    for parcel in parcels:
        assert len(parcel) <= max_items
        assert len(parcel) == 1 or parcel.tokens <= max_tokens
    assert packing.due is None
    assert not packing.busy


def test_no_item_waits_longer_than_the_first():
    """The parcel is due when its first item has waited; a full one opens the next."""
    packing = Packing(2, 100, 0.5)
    packing.add(Entry("a", 1), 10.0)
    assert packing.due == 10.5
    packing.add(Entry("b", 1), 10.4)
    assert packing.due is None
    packing.add(Entry("c", 1), 10.45)
    assert packing.due == 10.95
    packing.rebase(100.0)
    assert packing.due == 110.95


def test_an_item_that_is_withdrawn_frees_its_room():
    """In the open parcel; the last one to leave stops the clock."""
    packing = Packing(8, 10, 0.5)
    first, second = Entry("a", 6), Entry("b", 3)
    packing.add(first, 0.0)
    packing.add(second, 0.1)
    assert packing.withdraw(first) is None
    assert packing.add(Entry("c", 7), 0.2) == [second.parcel] or packing.busy
    packing = Packing(8, 10, 0.5)
    packing.add(first := Entry("a", 6), 0.0)
    packing.withdraw(first)
    assert (packing.due, packing.busy) == (None, False)


def sent(packing, size, accepts, too_large=False):
    """Send one request of `size` items to a server; return the requests, and who was given up."""
    _, parcels = filled(packing, [0.0] * size)
    queue = parcels + packing.take()
    requests, given_up, answered = [], [], []
    while queue:
        parcel = queue.pop(0)
        if not parcel.entries:
            queue += packing.lost(parcel)
            continue
        items = parcel.send()
        requests.append(len(items))
        if accepts(items):
            answered += items
            queue += packing.accepted(parcel)
        else:
            more, failed = packing.rejected(parcel, too_large=too_large)
            queue += more
            given_up += [entry.item for each in failed for entry in each.entries]
    assert sorted(answered + given_up) == list(range(size))
    return requests, sorted(given_up)


@given(st.integers(1, 300), st.data())
def test_bad_items_fail_alone(size, data):
    """All others are answered, at a cost that the number of bad items bounds."""
    bad = data.draw(st.sets(st.integers(0, size - 1), max_size=3))
    if len(bad) == size:
        return
    packing = Packing(1_000, 1e9, 0.0)
    requests, given_up = sent(packing, size, lambda items: not bad & set(items))
    assert given_up == sorted(bad)
    assert len(requests) <= 1 + 2 * len(bad) * math.ceil(math.log2(size) + 1)
    assert packing.most == 1_000 or not bad


@pytest.mark.parametrize(
    "bad", [range(20), range(2_028, 2_048), range(1_024, 1_044), range(0, 2_048, 400)]
)
def test_bad_items_in_a_row_do_not_hide_the_others(bad):
    """Sorted input may begin with all of its empty texts."""
    packing = Packing(2_048, 1e9, 0.0)
    _, given_up = sent(packing, 2_048, lambda items: not set(bad) & set(items))
    assert given_up == list(bad)


@given(st.integers(2, 3_000))
def test_a_request_that_is_wrong_itself_costs_little(size):
    """All items fail, after `2 * log2(n) + 3` requests at most."""
    packing = Packing(3_000, 1e9, 0.0)
    requests, given_up = sent(packing, size, lambda _: False)
    assert given_up == list(range(size))
    assert len(requests) <= 2 * math.ceil(math.log2(size)) + 3
    assert packing.most == 3_000


@given(st.integers(1, 2_048), st.integers(1, 500), st.booleans())
def test_the_size_that_a_server_accepts_is_learned(size, most, too_large):
    """The next request is as large as the server takes, and nothing is refused again."""
    packing = Packing(2_048, 1e9, 0.0)
    _, given_up = sent(packing, size, lambda items: len(items) <= most, too_large)
    assert given_up == []
    if size > most:
        assert most / 2 < packing.most <= most
        refused = packing.refused
        sent(packing, most * 3, lambda items: len(items) <= most)
        assert packing.refused == refused


def test_a_larger_request_is_tried_again():
    """After a number of full ones, which doubles when that fails."""
    packing = Packing(64, 1e9, 0.0)
    sent(packing, 64, lambda items: len(items) <= 8)
    assert packing.most == 8
    full = 0
    while packing.most == 8:
        sent(packing, 8, lambda items: len(items) <= 8)
        full += 1
        assert full <= 4 * FIRST_PATIENCE
    assert packing.most == 16
    sent(packing, 16, lambda items: len(items) <= 8)
    assert packing.most == 8
    for _ in range(full + 1):
        sent(packing, 8, lambda items: len(items) <= 8)
    assert packing.most == 8  # it is more patient now


def test_a_server_that_takes_more_is_found():
    """The learned size is left when the server's limit has gone."""
    packing = Packing(64, 1e9, 0.0)
    sent(packing, 64, lambda items: len(items) <= 8)
    for _ in range(1_000):
        sent(packing, packing.most, lambda _: True)
    assert packing.most == 64


@pytest.mark.parametrize(
    "values",
    [
        (0, 1, 0),
        (1.5, 1, 0),
        (True, 1, 0),
        (1, 0, 0),
        (1, math.nan, 0),
        (1, 1, -1),
        (1, 1, math.inf),
    ],
)
def test_values_out_of_range_are_refused(values):
    """When it is made."""
    with pytest.raises(errors.ConfigurationError):
        Packing(*values)


def test_vectors_are_sorted_by_their_index():
    """A server may answer in any order."""
    assert joined("m", {"dimensions": 2}, ["a"]) == {"model": "m", "input": ["a"], "dimensions": 2}
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]
    assert parted({"data": data}) == [[0.0], [1.0]]
    assert parted({"data": [{"embedding": [0.0]}, {"embedding": [1.0]}]}) == [[0.0], [1.0]]


@pytest.mark.parametrize(
    "response",
    [
        {},
        None,
        7,
        {"data": None},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0}]},
        {"data": [7]},
        {"data": [{"index": -1, "embedding": [1.0]}]},
    ],
)
def test_a_response_that_is_none_is_malformed(response):
    """Whatever the server answers."""
    with pytest.raises(errors.MalformedAnswer):
        parted(response)
