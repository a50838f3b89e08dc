"""docs/howto/daft.md."""

from __future__ import annotations

from jobs import JobContract


class TestDaft(JobContract):
    """Each of two programs has two files of 20 rows under way."""

    page = "daft"
    under_way = 2 * 2 * 20
