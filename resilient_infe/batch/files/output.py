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

STDOUT = "-"


class Output:
    """One file of lines.

    Args:
        path: of the file; ``-`` is stdout. A link is followed, and what is no file (a pipe,
            ``/dev/null``) is written to as it is.
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
                self._file = self._place.open("wb")
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

    def _failure(self, error: OSError) -> BatchError:
        return BatchError(
            f"{self.path} cannot be written ({error.strerror}): mend that and run the same again; "
            f"the results are safe in the journal"
        )
