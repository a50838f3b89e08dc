"""The files that a run leaves: a projection of the journal, which can be read while it goes on.

A first run writes straight into its files. A run that goes on writes them anew, beside the old
ones, and puts them in their place once they hold all that the journal told; so no reader ever sees
less than before, and whatever a crash did to the old file does not matter.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

from ...errors import BatchError
from ..store.salvage import sync_folder

STDOUT = "-"

NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Output:
    """One file of lines.

    Args:
        path: of the file; ``-`` is stdout. A link is followed, and what is no file (a pipe,
            ``/dev/null``) is written to as it is. A new file can be read by its owner alone; one
            that was there keeps its mode.
        beside: whether to write beside it until `settle`.

    Raises:
        BatchError: it cannot be written.

    State: the file, made by `begin` or at the first line.
    """

    def __init__(self, path: str, *, beside: bool) -> None:
        """Nothing is opened yet."""
        self.path = path
        self._target = Path(os.path.realpath(path))
        self._plain = path != STDOUT and (self._target.is_file() or not self._target.exists())
        beside = beside and self._plain
        self._place = self._target.with_name(self._target.name + ".new") if beside else self._target
        self._file: BinaryIO | None = sys.stdout.buffer if path == STDOUT else None

    def begin(self) -> None:
        """Make the file, so that one that cannot be written is known before anything is sent."""
        try:
            if self._file is None:
                self._file = self._opened()
        except OSError as error:
            raise self._failure(error) from None

    def forget(self) -> None:
        """Remove what another run left, as there is nothing to tell yet."""
        if self._plain and self._place == self._target:
            self._target.unlink(missing_ok=True)

    def write(self, line: bytes) -> None:
        """Add a line."""
        self.begin()
        assert self._file is not None
        try:
            self._file.write(line)
        except OSError as error:
            raise self._failure(error) from None

    def flush(self) -> None:
        """Let readers see what was written."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                raise self._failure(error) from None

    def settle(self) -> None:
        """Put the file in its place, if it is not there: it holds all that is known."""
        self.flush()
        if self._place == self._target:
            return
        try:
            if self._file is not None:
                self._place.replace(self._target)
            else:
                self._target.unlink(missing_ok=True)
            sync_folder(self._target.parent)
        except OSError as error:
            raise self._failure(error) from None
        self._place = self._target

    def close(self) -> None:
        """Wait for the disk and close the file; one that was not settled is dropped."""
        file, self._file = self._file, None
        if file is None or self.path == STDOUT:
            return
        try:
            file.flush()
            if self._plain:
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failure(error) from None
        finally:
            with contextlib.suppress(OSError):  # it would try to write what it could not
                file.close()
            if self._place != self._target:
                self._place.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if not self._plain:
            return self._place.open("wb")
        if self._place != self._target:
            self._place.unlink(missing_ok=True)  # what a crash left, or a link that was put there
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_LINK
        fd = os.open(self._place, flags, 0o600)
        if self._place != self._target and self._target.exists():
            self._place.chmod(self._target.stat().st_mode & 0o777)
        return os.fdopen(fd, "wb")

    def _failure(self, error: OSError) -> BatchError:
        return BatchError(
            f"{self.path} cannot be written ({error.strerror}): mend that and run the same again; "
            f"the results are safe in the journal"
        )
