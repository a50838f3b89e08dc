"""Trying again: the layer, the schedule that decides, backoff, and a budget for all calls."""
