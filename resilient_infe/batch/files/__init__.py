"""From a file of requests to a file of results: lines in, a job, lines out."""

from __future__ import annotations

from .job import Job
from .options import JobOptions

__all__ = ["Job", "JobOptions"]
