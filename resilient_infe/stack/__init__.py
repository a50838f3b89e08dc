"""How a stack links its layers, which orders are allowed, and what a stack reports."""

from __future__ import annotations

from .stack import Stack

__all__ = ["Stack"]
