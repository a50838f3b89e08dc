"""How a run went, drawn from its journal: one page that needs no network and no script."""

from __future__ import annotations

from .history import History, history_of
from .page import page

__all__ = ["History", "history_of", "page"]
