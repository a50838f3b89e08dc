"""Where the socket of a run is.

There are two places, in this order:

1. Beside the journal, under its name with ``-ctl`` behind it, so that it is found where the journal
   is, also from outside of a container. Its mode is 0600 before anybody can connect.
2. In a folder of the user's own, mode 0700, under a name made of the journal's path. It is for file
   systems that have no sockets, and for names that are too long.

The path of a socket has at most 107 bytes on Linux, and 103 elsewhere. A longer one is reached by
way of ``/proc/self/fd``, from the folder that it is in.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 103
"""Bytes of the path of a socket, on every system."""

OWN_FDS = "/proc/self/fd"
"""Where Linux has the open files of this process."""


def beside(journal: Path) -> Path:
    """Return the path of the socket beside a journal."""
    return journal.with_name(f"{journal.name}-ctl")


def in_own_folder(journal: Path) -> Path:
    """Return the path of the socket in the user's folder."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(journal))).hexdigest()
    return own_folder() / f"{digest[:32]}.ctl"


def own_folder() -> Path:
    """Return the user's folder for sockets, which may not exist yet."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and is_private(Path(given)):
        return Path(given) / "resilient-infe"
    return Path(tempfile.gettempdir()) / f"resilient-infe-{os.geteuid()}"


def made_own_folder() -> Path:
    """Make the user's folder where there is none, and return it.

    Raises:
        OSError: it cannot be made, or somebody else can write to what has its name.
    """
    folder = own_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder):
        raise PermissionError(f"{folder} is not a folder of this user's alone")
    return folder


def is_private(folder: Path) -> bool:
    """Return whether a folder exists, is no link, and is this user's alone."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    own = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return stat.S_ISDIR(found.st_mode) and own


def is_socket(path: Path) -> bool:
    """Return whether a path is a socket, and no link to one."""
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Yield a path of at most `LONGEST` bytes that leads to the same file.

    Raises:
        OSError: there is none, or the folder cannot be opened.
    """
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        short = f"{OWN_FDS}/{folder}/{path.name}"
        if len(os.fsencode(short)) > LONGEST or not Path(OWN_FDS).is_dir():
            raise OSError(f"{path} is too long for a socket")
        yield short
    finally:
        os.close(folder)
