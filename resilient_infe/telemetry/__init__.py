"""Listeners for a stack's events: pass them as ``Stack(..., listeners=[...])``."""

from __future__ import annotations

from .counters import Counters, CountersSnapshot
from .log import LogListener

__all__ = ["Counters", "CountersSnapshot", "LogListener"]
