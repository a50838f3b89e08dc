"""Reads a journal as it was left, whatever stopped the run that wrote it.

A line that is not whole at the end of the file is what a crash leaves: it was never safe, and is
cut off. One that is not whole *below* what a later line says was safe has changed since: that is
refused, since nobody can tell what else has changed.
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...errors import JournalDamaged, JournalError
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


def salvage(path: Path) -> Path:
    """Leave out a journal's damaged lines; returns where the damaged file is kept.

    That is beside it: ``NAME.damaged``, or ``NAME.damaged.2`` and so on where another file has the
    name. At every instant either the damaged file or the repaired one is the journal, so that a run
    after a crash refuses it or goes on.

    Args:
        path: of the journal, which nobody else writes to.

    Raises:
        JournalDamaged: its first line is damaged, or it is another kind of file.
        JournalError: the files cannot be written.
    """
    with path.open("rb") as file:
        first = unsealed(file.readline())
    if first is None:
        raise JournalDamaged(f"{path}: its first line is damaged; start a new journal")
    _check_header(str(path), first)
    beside = path.with_name(path.name + ".salvaged")
    try:
        kept = _kept(path, beside)
        with path.open("rb") as file:
            _write(beside, (line for line in file if unsealed(line) is not None))
        sync_folder(path.parent)  # the damaged file has its second name before it loses the first
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise JournalError(
            f"the journal {path} cannot be repaired ({error.strerror}), and nothing is lost: make "
            f"room on the disk, or see who may write there, then run the same again"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    return kept


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are safe on the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _kept(path: Path, beside: Path) -> Path:
    """Give a file a second name that no other file has; returns it."""
    kept, number = path.with_name(f"{path.name}.damaged"), 1
    while os.path.lexists(kept):
        if not kept.is_symlink() and filecmp.cmp(path, kept, shallow=False):
            return kept  # a salvage that was killed has come this far
        number += 1
        kept = path.with_name(f"{path.name}.damaged.{number}")
    try:
        os.link(path, kept)
    except OSError:  # not every file system has hard links
        with path.open("rb") as file:
            _write(beside, file)
        beside.replace(kept)
    return kept


def _write(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file anew, and wait for the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())


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
