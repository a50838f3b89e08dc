"""The lines of docs/howto/engines.md for Dask."""

from __future__ import annotations

PAGE = "engines"


def test_threads_of_two_workers_keep_one_limit(place):
    """Every row is answered, once, and no 429 comes."""
    last = f"sum(map(len, main({place.blocks!r}, {place.url!r}, {place.redis!r})))"
    assert place.run("Dask", last) == "100"
    assert (place.model.books.sends, place.model.books.rejected) == (100, 0)
