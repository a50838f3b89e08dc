"""Where a client meets the stack: one file per client, and `wrap`, the front door to them all."""

from __future__ import annotations

from .front import wrap

__all__ = ["wrap"]
