"""The journal on disk: an SQLite database of what came of each row, and its writer."""

from __future__ import annotations

from .file import Journal
from .lock import is_in_use
from .recorded import Recorded, recorded_at
from .rows import Entry

__all__ = ["Entry", "Journal", "Recorded", "is_in_use", "recorded_at"]
