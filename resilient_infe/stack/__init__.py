"""How layers become one call, in which order they work, and what a stack reports of itself."""

from __future__ import annotations

from .stack import Stack

__all__ = ["Stack"]
