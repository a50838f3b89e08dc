"""The library's own transport for the Infe API, on aiohttp: JSON requests and streams."""
