"""The file that makes a batch survive: its lines, its thread, and what it knows of each row."""

from __future__ import annotations

from .file import Journal, is_in_use, records

__all__ = ["Journal", "is_in_use", "records"]
