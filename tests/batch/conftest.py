"""Where the tests of batches write: into memory, if there is a file system of it.

To wait for the disk took nine tenths of their time. Nothing here depends on a real disk: a process
that is killed leaves its files as they are, and power cuts are made of copies.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

MEMORY = "/dev/shm"


@contextmanager
def folder():
    """A folder in memory, or on the disk where there is none."""
    where = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as path:
        yield Path(path)


@pytest.fixture
def tmp_path():
    """A folder for one test."""
    with folder() as path:
        yield path


@pytest.fixture(scope="module")
def module_path():
    """A folder for the tests of one file."""
    with folder() as path:
        yield path
