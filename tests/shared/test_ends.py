"""Shares end with the process that holds them, where nobody gives them up."""

from __future__ import annotations

import workers


def test_shares_are_given_up_at_the_exit(tmp_path, redis_server):
    """A member of a limit is gone at once with its process, not when its lease ends."""
    import redis

    workers.ended("loops", tmp_path / "lines", redis_server.url)
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.hget("{infe}:all", "share") == b"0"
