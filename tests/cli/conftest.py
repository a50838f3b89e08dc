"""A real Redis, where one is installed."""

from redis_servers import redis_server

__all__ = ["redis_server"]
