"""Sessions of aiohttp: a client middleware with a stack inside."""
