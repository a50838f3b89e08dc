"""A journal as a power cut may leave it: what was synced, and any part of what was not."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field

import pytest

from resilient_infe.batch.plain import to_json
from resilient_infe.batch.result import Result
from resilient_infe.batch.store import Journal
from resilient_infe.testing import run_virtually

PAGE = 4096
FRAME = PAGE + 24
HEADER = 32


@dataclass
class Written:
    """A journal that was written row by row.

    Attributes:
        base: the database as it was last synced.
        log: its write-ahead log.
        acked: for each row, the bytes of the log when it was said to be safe.
    """

    base: bytes = b""
    log: bytes = b""
    acked: list[int] = field(default_factory=list)

    def safe_at(self, length):
        """The rows that a log of this length holds."""
        return [n for n, end in enumerate(self.acked) if end <= length]


def written(folder, rows, size=40):
    """Write rows into a journal; returns it as it is while the run goes on."""
    path, log = folder / "j", folder / "j-wal"
    found = Written()

    async def main():
        journal = Journal(path, threaded=False)
        journal.start(pytest.fail)
        for n in range(rows):
            value = {"n": n, "text": "x" * size}
            result = Result(n, f"r{n}", None, value, encoded=to_json(value))
            journal.put(result, None, lambda: found.acked.append(log.stat().st_size))
        found.base, found.log = path.read_bytes(), log.read_bytes()
        journal.close()

    run_virtually(main)
    return found


def opened(folder, base, log, shm=None):
    """The rows that a run finds in a journal of these files, each with its right value."""
    folder.mkdir()
    path = folder / "j"
    path.write_bytes(base)
    (folder / "j-wal").write_bytes(log)
    if shm is not None:
        (folder / "j-shm").write_bytes(shm)
    with closing(Journal(path)) as journal:
        found = []
        for n in range(10_000):
            if journal.find(f"r{n}") is None:
                break
            assert journal.result(f"r{n}", n, None, None)[0].value["n"] == n
            found.append(n)
        assert journal.recorded.done == len(found)
    return found
