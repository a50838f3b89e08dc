"""The adapter for httpx and httpx2: a transport that sends requests through a stack."""
