"""Retries: the layer, the schedule that decides, the backoff, and a budget shared by all calls."""
