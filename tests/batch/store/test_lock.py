"""One run at a time: who has a journal, and where there are no locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from resilient_infe import errors
from resilient_infe.batch.store import Journal, is_in_use, lock

HOLD = """
import sys, time
from resilient_infe.batch.store import Journal
journal = Journal(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_of_this_process_is_named(tmp_path):
    """A journal that was left open by the program itself says so."""
    with_it = Journal(tmp_path / "j")
    with pytest.raises(errors.JournalInUse, match="another run of this process still has"):
        Journal(tmp_path / "j")
    with_it.close()
    with_it.close()
    Journal(tmp_path / "j").close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_process_is_named(tmp_path):
    """Its number is told; once it is killed the journal is free."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "j")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert is_in_use(tmp_path / "j")
        with pytest.raises(errors.JournalInUse, match=f"process {process.pid} on"):
            Journal(tmp_path / "j")
        process.kill()
    assert not is_in_use(tmp_path / "j")
    Journal(tmp_path / "j").close()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO])
def test_no_locks_is_not_another_run(tmp_path, monkeypatch, code):
    """A file system without locks is named."""

    def none(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock, "lock", none)
    kind = lock.file_system_of(tmp_path)
    with pytest.raises(errors.JournalError, match=rf"no locks here \({kind}: .*local disk") as told:
        Journal(tmp_path / "j")
    assert not isinstance(told.value, errors.JournalInUse)
    assert not is_in_use(tmp_path / "j")


def test_a_lock_that_was_removed_meanwhile(tmp_path, monkeypatch):
    """Who locked the file that the run before removed takes the new one."""
    real, seen = lock.lock, []

    def first_removed(fd):
        if not seen:
            lock.lock_path(tmp_path / "j").unlink()
        seen.append(fd)
        real(fd)

    monkeypatch.setattr(lock, "lock", first_removed)
    journal = Journal(tmp_path / "j")
    assert len(seen) == 2
    monkeypatch.undo()
    assert is_in_use(tmp_path / "j")
    journal.close()


def test_a_link_in_place_of_the_lock(tmp_path):
    """It is not followed."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    lock.lock_path(tmp_path / "j").symlink_to(victim)
    with pytest.raises(errors.JournalError, match="link"):
        Journal(tmp_path / "j")
    assert victim.read_bytes() == b"precious"


def test_file_systems(tmp_path):
    """The one that a path is on is found, and those that machines share are known."""
    assert lock.file_system_of(tmp_path)
    assert lock.file_system_of(tmp_path / "not" / "there") == lock.file_system_of(tmp_path)
    assert lock.file_system_of("/proc/self/status") == "proc"
    assert not lock.is_shared(tmp_path)
    assert all(name.startswith(lock.NETWORK) for name in ("nfs4", "smb3", "fuse.sshfs", "lustre"))
