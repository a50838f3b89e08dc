"""One run at a time: a lock on a file beside the journal, which the system frees when a run dies.

The lock is not on the database itself: to close any file of it would free SQLite's own locks in the
same process.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

from ...errors import ConfigurationError, JournalError, JournalInUse, JournalWriteFailed

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What the system says where somebody else has a lock; all else means that there are no locks."""

NETWORK = (
    "nfs", "cifs", "smb", "lustre", "afs", "9p", "gpfs", "beegfs", "ceph", "glusterfs", "fuse",
)  # fmt: skip
"""How the names of file systems begin that machines may share; they share no memory then."""

FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class Lock:
    """The right to write to a journal.

    Args:
        path: of the journal.

    Raises:
        JournalInUse: another run has it.
        JournalError: the file system has no locks, or the folder cannot be written to.

    State: a file beside the journal, removed by `release`.
    """

    def __init__(self, path: Path) -> None:
        self._path = lock_path(path)
        while True:
            try:
                self._fd = os.open(self._path, FLAGS, 0o600)
            except OSError as error:
                what = "it is a link" if self._path.is_symlink() else error.strerror
                raise JournalError(
                    f"the journal {path} cannot be opened: {self._path}: {what}"
                ) from None
            try:
                self._take(path)
                if self._stands():
                    break
                os.close(self._fd)  # the run before removed it while we waited
            except BaseException:
                os.close(self._fd)
                raise
        os.ftruncate(self._fd, 0)
        os.write(self._fd, _me().encode())

    def release(self) -> None:
        """Let another run have it; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # an open file cannot be removed everywhere; it does not matter
        finally:
            os.close(fd)

    def _take(self, path: Path) -> None:
        try:
            lock(self._fd)
        except OSError as error:
            if error.errno not in HELD:
                raise JournalError(
                    f"{path}: there are no locks here ({file_system_of(path)}: {error.strerror}), "
                    f"so nothing would keep two runs apart: give a --journal on a local disk"
                ) from None
            # Not everywhere can a locked file be read.
            try:
                holder = os.pread(self._fd, 200, 0).decode(errors="replace")
            except (OSError, AttributeError):
                holder = ""
            if holder == _me():
                raise JournalInUse(
                    f"another run of this process still has {path}: close its Journal, or leave "
                    f"the run by `async with run_batch(...)` or `aclose()`"
                ) from None
            by = f" ({holder})" if holder.isprintable() and holder else ""
            raise JournalInUse(
                f"another run{by} writes to {path}: wait for it, stop it, or give another --journal"
            ) from None

    def _stands(self) -> bool:
        """Whether the file that is locked is still the one of that name."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False


class Names:
    """Notices that the files of an open journal have lost their names.

    They can be removed or replaced while they are written to, and no write fails then: all that is
    recorded from there on would be gone at the end.

    Args:
        path: of a journal that is open.

    State: which files had the names at first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        files = (path, path.with_name(f"{path.name}-wal"))
        self._files = {each: each.stat() for each in files if each.exists()}

    def check(self) -> None:
        """Check that the files still have their names.

        Raises:
            JournalWriteFailed: one was removed or replaced.
        """
        for file, then in self._files.items():
            try:
                same = os.path.samestat(then, file.stat())
            except OSError:
                same = False
            if not same:
                raise JournalWriteFailed(
                    f"{file} was removed or replaced while the run wrote to it, so nothing more "
                    f"was sent: bring the journal back from a copy, or begin anew with another "
                    f"--output; the output has what was done until then"
                )


def lock_path(path: Path) -> Path:
    """Return the path of the file that is locked for a journal."""
    return path.with_name(f"{path.name}-lock")


def lock(fd: int) -> None:
    """Lock a file, or raise an `OSError` at once."""
    if sys.platform == "win32":  # not shown: no test runs there
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        return
    try:
        import fcntl
    except ImportError:
        raise ConfigurationError("a journal needs a system that has flock, like Linux") from None
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_in_use(path: str | os.PathLike[str]) -> bool:
    """Return whether a run writes to a journal."""
    try:
        fd = os.open(lock_path(Path(path)), os.O_RDWR)
    except OSError:
        return False
    try:
        lock(fd)
    except OSError as error:
        return error.errno in HELD
    finally:
        os.close(fd)
    return False


def file_system_of(path: Path) -> str:
    """Return the kind of file system that a path is on, as Linux names it; empty elsewhere."""
    best, kind = "", ""
    where = os.path.realpath(path)
    try:
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                head, _, tail = line.partition(" - ")
                mount = head.split()[4].encode("utf-8", "surrogateescape")
                place = mount.decode("unicode_escape").encode("latin-1").decode(
                    "utf-8", "surrogateescape"
                )  # fmt: skip
                inside = where == place or where.startswith(place.rstrip("/") + "/")
                if inside and len(place) >= len(best):
                    best, kind = place, tail.split()[0]
    except (OSError, IndexError, ValueError):
        return ""
    return kind


def is_shared(path: Path) -> bool:
    """Return whether other machines may see the same file."""
    return file_system_of(path).startswith(NETWORK)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
