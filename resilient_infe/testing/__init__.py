"""Helpers for tests and demonstrations: a stand-in for the Infe API, and virtual time.

The stand-in works in process or over HTTP. In the library, only the command line imports this.
"""

from __future__ import annotations

from .books import Books
from .model import Faults, InfeModel, ModelReply, ModelRequest
from .shell import InProcessInfe
from .virtual import run_virtually

__all__ = [
    "Books",
    "Faults",
    "InProcessInfe",
    "InfeModel",
    "ModelReply",
    "ModelRequest",
    "run_virtually",
]
