"""Every reader of outside input is given nonsense, for 40 s of CPU time.

A failing input is kept in tests/proof/seeds, and tried first from then on. Where atheris is
installed, `python tests/proof/test_readers.py "a reply" -max_total_time=60` lets it guide the
search by coverage.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

import pytest
import tally
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from readers import READERS, checked

SECONDS = 40.0 * tally.SCALE
"""Of CPU time, for each reader."""

SEED = int(os.environ.get("PROOF_SEED", "1"))

SEEDS = DirectoryBasedExampleDatabase(str(Path(__file__).with_name("seeds")))


def fuzzed(reader, examples=500, database=SEEDS):
    """Return a test that gives a reader so many inputs."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=database,
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.given)
    def read(value):
        tally.tried("inputs")
        checked(reader, value)

    return read


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_anything(name):
    """It reads it, or raises the error that says what is wrong."""
    end = time.process_time() + SECONDS
    for number in itertools.count(1_000 * SEED):
        seed(number)(fuzzed(READERS[name]))()
        if time.process_time() >= end:
            return


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    read = fuzzed(READERS[sys.argv.pop(1)])
    atheris.Setup(sys.argv, read.hypothesis.fuzz_one_input)
    atheris.Fuzz()
