"""Pipelines: very many rows in, a result for each out, whatever happens on the way."""

from __future__ import annotations

from .monitor import Monitor
from .prices import listed, per_million
from .progress import Progress
from .result import Failure, Result, RowFailed
from .run import BatchRun, run_batch
from .sample import Tally
from .store import Journal

__all__ = [
    "BatchRun",
    "Failure",
    "Journal",
    "Monitor",
    "Progress",
    "Result",
    "RowFailed",
    "Tally",
    "listed",
    "per_million",
    "run_batch",
]
