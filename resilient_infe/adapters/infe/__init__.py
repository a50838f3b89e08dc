"""The transport of our own, on aiohttp: JSON in, JSON out, and streams."""
