"""Helpers for tests and demonstrations: a stand-in for the Infe API, virtual time, a simulator.

The stand-in works in process or over HTTP. In the library, only the command line imports this.
"""

from __future__ import annotations

from .books import Books
from .course import Second
from .model import Faults, InfeModel, ModelReply, ModelRequest
from .record import Attempted, Called, Record
from .scenario import Broken, Errors, Limit, OtherUsers, Scenario, Slow, Stalls
from .shell import InProcessInfe
from .simulation import simulate
from .virtual import run_virtually
from .workload import Rows, Traffic

__all__ = [
    "Attempted",
    "Books",
    "Broken",
    "Called",
    "Errors",
    "Faults",
    "InProcessInfe",
    "InfeModel",
    "Limit",
    "ModelReply",
    "ModelRequest",
    "OtherUsers",
    "Record",
    "Rows",
    "Scenario",
    "Second",
    "Slow",
    "Stalls",
    "Traffic",
    "run_virtually",
    "simulate",
]
