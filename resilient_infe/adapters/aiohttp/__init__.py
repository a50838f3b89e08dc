"""The adapter for aiohttp: a client middleware that sends requests through a stack."""
