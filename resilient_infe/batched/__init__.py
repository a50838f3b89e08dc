"""Small calls that are put together into few requests."""

from __future__ import annotations

from .batched import Batched

__all__ = ["Batched"]
