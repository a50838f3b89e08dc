"""Reads a journal as it was left, whatever stopped the run that wrote it.

A line that is not whole at the end of the file is what a crash leaves: it was never safe, and is
cut off. One that is not whole *below* what a later line says was safe has changed since: that is
refused, since nobody can tell what else has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...errors import JournalDamaged
from .record import OPENING, VERSION, head_of, unsealed


@dataclass(slots=True)
class Line:
    """One whole line: where it starts, and its JSON."""

    offset: int
    content: bytes


@dataclass(slots=True)
class Tail:
    """Where the whole lines end, and how many bytes of a torn one follow."""

    end: int = 0
    torn: int = 0


def whole_lines(file: BinaryIO, name: str, tail: Tail, size: int | None = None) -> Iterator[Line]:
    """Yield the lines up to the first that is not whole; `tail` then says where that is.

    Args:
        file: of the journal, at its start.
        name: of the journal.
        tail: where it ends, for whoever asks.
        size: bytes to read at most, where somebody may be writing to it.

    Raises:
        JournalDamaged: bytes that were safe have changed, or it is no journal.
    """
    for number, line in enumerate(file, 1):
        content = unsealed(line)
        if size is not None and tail.end + len(line) > size:
            return  # it came while we read, and may not be there whole
        if content is None:
            _refuse_damage(file, name, number, line, tail)
            tail.torn = len(line) + sum(map(len, file))
            return
        if number == 1:
            _check_header(name, content)
        yield Line(tail.end, content)
        tail.end += len(line)


def damaged_copy(path: Path) -> Path:
    """Return where `salvage` keeps the damaged file."""
    return path.with_name(path.name + ".damaged")


def salvage(path: Path) -> int:
    """Write a journal anew without its damaged lines; returns how many those were.

    The damaged file is kept beside it as ``NAME.damaged``.
    """
    beside = path.with_name(path.name + ".salvaged")
    lost = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with path.open("rb") as file, os.fdopen(os.open(beside, flags, 0o600), "wb") as out:
        for number, line in enumerate(file, 1):
            content = unsealed(line)
            if content is None:
                lost += 1
                if number == 1:
                    raise JournalDamaged(f"{path}: its first line is damaged; start a new journal")
            else:
                out.write(line)
        out.flush()
        os.fsync(out.fileno())
    path.replace(damaged_copy(path))
    beside.replace(path)
    return lost


def _refuse_damage(file: BinaryIO, name: str, number: int, line: bytes, tail: Tail) -> None:
    """Raise if the line that is not whole is more than a torn tail."""
    if number == 1 and (line[-1:] == b"\n" or not _begins_like_a_line(line)):
        raise JournalDamaged(
            f"{name} is no journal, and is left as it is: give a journal's own path"
        )
    bad, durable = tail.end, 0
    start = file.tell()
    for later in file:
        content = unsealed(later)
        if content is not None:
            durable = max(durable, _durable(content))
    file.seek(start)
    if durable > bad:
        raise JournalDamaged(
            f"{name}: line {number} has changed since it was written (at byte {bad:,}). Nothing "
            f"was touched. Bring the file back from a backup, or go on with --salvage: the rows of "
            f"damaged lines are then sent again, and the damaged file is kept"
        )


def _begins_like_a_line(line: bytes) -> bool:
    return line.startswith(OPENING) or OPENING.startswith(line)


def _durable(content: bytes) -> int:
    try:
        return int(head_of(content).get("durable", 0))
    except (ValueError, TypeError):
        return 0


def _check_header(name: str, content: bytes) -> None:
    header = json.loads(content)
    if header.get("type") != "journal":
        raise JournalDamaged(f"{name} does not begin like a journal: give another --journal")
    if header.get("version") != VERSION:
        raise JournalDamaged(
            f"{name} was written by another version ({header.get('library')}): finish the batch "
            f"with that one, or give another --journal"
        )
