"""What tests and demonstrations need: an Infe stand-in, in process or over HTTP, and virtual time.

Nothing in the library imports this but its command line.
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
