"""One limit over several processes: each holds a share of it, by need.

The processes agree over a store that all of them can reach. A process asks it now and then, not for
each call: a limiter that asks for each call polls, or collapses under its own waiters.

1. `script` is what Redis runs: it divides the limit by what the members need.
2. `Member` is the share of one process in one limit. `Pulse` decides when it asks.
3. `RedisShares` is given to a `RateLimiter`. It is the only file that waits.
"""

from .shares import RedisShares, SharesStatistics

__all__ = ["RedisShares", "SharesStatistics"]
