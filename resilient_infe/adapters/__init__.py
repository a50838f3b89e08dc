"""Adapters between clients and the stack: a file or folder per client, and `wrap` for all."""
