"""docs/howto/ray_data.md."""

from __future__ import annotations

from jobs import JobContract


class TestRayData(JobContract):
    """Each of two actors has four blocks of 50 rows under way, and as many wait to be written."""

    page = "ray_data"
    under_way = 2 * (4 + 4) * 50
