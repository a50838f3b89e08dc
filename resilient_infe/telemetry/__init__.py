"""Listeners for a stack's events: give them to ``Stack(..., listeners=[...])``."""

from __future__ import annotations

from ..log import LogListener
from .counters import Counters, CountersSnapshot

__all__ = ["Counters", "CountersSnapshot", "LogListener"]
