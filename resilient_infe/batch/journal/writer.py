"""Gets lines onto the disk: a thread that writes whatever queued up while it last waited for it.

An fsync takes as long for a hundred lines as for one, and would stall the event loop if it ran
there. So one thread takes all that is queued, writes it, waits for the disk once, and then tells
the loop which rows are safe (group commit).
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from functools import partial

from ...aio import Runtime
from ...errors import JournalWriteFailed

Done = Callable[[], None]

Entry = tuple[bytes, Done | None]

_sync = getattr(os, "fdatasync", os.fsync)

GATHER = 0.01
"""Seconds from a line's arrival to when the thread gets it. Where an fsync takes a quarter of
a millisecond, groups would otherwise be of one or two rows, at a quarter of a run's CPU time."""

MOST_AT_ONCE = 8 * 1024 * 1024
"""Bytes that are written between two waits for the disk."""


class InlineWriter:
    """Writes each line at once, in the caller's thread: for virtual time, where there is no other.

    Args:
        fd: of a file opened for appending.
        end: bytes that are in it.
    """

    def __init__(self, fd: int, end: int) -> None:
        """Nothing is written yet."""
        self._fd = fd
        self.durable = end

    def put(self, line: bytes, done: Done | None) -> None:
        """Write a line and wait for the disk."""
        _write(self._fd, line)
        self.durable += len(line)
        if done is not None:
            done()

    def close(self) -> None:
        """There is nothing left to write."""


class ThreadWriter:
    """Writes lines in a thread of its own, and waits for the disk once for all that queued.

    Args:
        fd: of a file opened for appending.
        end: bytes that are in it.
        runtime: the event loop that lines come from.
        failed: is told, in the loop, that the disk takes no more.

    After a failure nothing is written any more: whether the disk kept what it was given can not be
    asked a second time.
    """

    def __init__(
        self,
        fd: int,
        end: int,
        runtime: Runtime,
        failed: Callable[[JournalWriteFailed], None],
    ) -> None:
        """Start the thread."""
        self._fd = fd
        self.durable = end
        self._runtime = runtime
        self._call_soon = runtime.call_soon
        self._alarm = runtime.alarm(self._hand_over)
        self._failed = failed
        self._error: JournalWriteFailed | None = None
        self._gathering: list[Entry] = []
        self._groups: queue.SimpleQueue[list[Entry] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, line: bytes, done: Done | None) -> None:
        """Queue a line; `done` runs in the loop once it is safe, or never.

        What comes within some milliseconds is handed over together: to wake a thread, and to hand
        it the interpreter, costs as much as ten rows do otherwise.
        """
        if not self._gathering:
            self._alarm.set(self._runtime.now() + GATHER)
        self._gathering.append((line, done))

    def close(self) -> None:
        """Write what is queued and end the thread.

        Raises:
            JournalWriteFailed: the disk took no more.
        """
        self._alarm.set(None)
        self._hand_over(0.0)
        self._groups.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _hand_over(self, _: float) -> None:
        group, self._gathering = self._gathering, []
        if group:
            self._groups.put(group)

    def _run(self) -> None:
        open_still = True
        while open_still:
            lines, callbacks, open_still = self._gathered()
            if not lines or self._error is not None:
                continue
            try:
                _write(self._fd, b"".join(lines))
            except JournalWriteFailed as error:
                self._error = error
                self._call_soon(partial(self._failed, error))
                continue
            self.durable += sum(map(len, lines))
            if callbacks:
                self._call_soon(partial(_call, callbacks))

    def _gathered(self) -> tuple[list[bytes], list[Done], bool]:
        """Return all that is queued, waiting for the first; and whether there may be more."""
        lines: list[bytes] = []
        callbacks: list[Done] = []
        group = self._groups.get()
        size = 0
        while group is not None:
            lines += [line for line, _ in group]
            callbacks += [done for _, done in group if done is not None]
            size += sum(len(line) for line, _ in group)
            if size > MOST_AT_ONCE:
                return lines, callbacks, True
            try:
                group = self._groups.get_nowait()
            except queue.Empty:
                return lines, callbacks, True
        return lines, callbacks, False


def _call(callbacks: list[Done]) -> None:
    for callback in callbacks:
        callback()


def _write(fd: int, content: bytes) -> None:
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        _sync(fd)
    except OSError as error:
        raise JournalWriteFailed(
            f"the journal cannot be written ({error.strerror}): make room on the disk, then run "
            f"the same again; every row that was reported is safe"
        ) from error
