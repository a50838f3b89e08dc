"""Bounds in time: of a whole call, and of one attempt."""
