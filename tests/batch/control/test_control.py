"""The socket over which a run takes orders: who may, how much, and for how long."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from resilient_infe.batch.control import address, ask, listen, listener
from resilient_infe.batch.control.address import beside, in_own_folder, own_folder, reachable
from resilient_infe.errors import BatchError, ConfigurationError


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A journal, and a folder for sockets of the user's own."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    path = tmp_path / "out.jsonl.journal"
    path.touch()
    return path


def echo(order):
    """Reply with the order."""
    if order.get("refuse"):
        raise ConfigurationError("not \x1b[31mthat")
    return {"order": order}


def during(backend, journal, client, obey=echo, said=None):
    """Run a blocking function in a thread while a run takes orders; return what it returns."""

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(listen, journal, obey, said.append if said is not None else print)
            while not (beside(journal).exists() or in_own_folder(journal).exists() or said):
                await anyio.lowlevel.checkpoint()
            found = await anyio.to_thread.run_sync(client)
            group.cancel_scope.cancel()
        return found

    return anyio.run(main, backend=backend)


def raw(path, sent, *, close=False):
    """Send bytes to a socket; return all that comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        with reachable(path) as short:
            sock.connect(short)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(sent)
            if close:
                return b""
            found = b""
            while part := sock.recv(65_536):
                found += part
            return found
    return b""


def test_an_order_is_carried_out_and_replied_to(backend, journal):
    """The socket is its owner's alone, and is gone after the run."""

    def client():
        assert stat.S_IMODE(beside(journal).lstat().st_mode) == 0o600
        with pytest.raises(BatchError, match=r"not \\x1b\[31mthat"):
            ask(journal, {"refuse": True})
        return ask(journal, {"limits": {"concurrency": 5}})

    assert during(backend, journal, client) == {"order": {"limits": {"concurrency": 5}}}
    assert not beside(journal).exists()


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"nonsense\n",
        b"[1]\n",
        b"7\n",
        b"[" * 60_000 + b"\n",
        b'{"a": ' + b"9" * 5_000 + b"}\n",
        b"\xff\xfe\x00\n",
        b"x" * 200_000,
        b'{"a": 1',
    ],
)
def test_what_is_no_order_is_refused(backend, journal, monkeypatch, sent):
    """In one line, or by hanging up; the next client is served."""
    monkeypatch.setattr(listener, "PATIENCE", 0.2)

    def client():
        found = raw(beside(journal), sent)
        assert not found or "error" in json.loads(found)
        return ask(journal, {})

    assert during(backend, journal, client) == {"order": {}}


def test_a_client_that_says_nothing_is_let_go(backend, journal, monkeypatch):
    """Many of them do not keep others out for longer than they may stay."""
    monkeypatch.setattr(listener, "PATIENCE", 0.2)
    monkeypatch.setattr(listener, "MOST_CLIENTS", 3)

    def client():
        silent = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for each in silent:
            each.connect(str(beside(journal)))
        found = ask(journal, {})
        for each in silent:
            each.settimeout(10)
            assert each.recv(10) == b""  # hung up
            each.close()
        return found

    assert during(backend, journal, client) == {"order": {}}


def test_clients_that_vanish_do_not_end_the_run(backend, journal):
    """Whether in the middle of an order, or before the reply."""

    def client():
        for sent in (b"", b'{"a"', b"{}\n"):
            for _ in range(20):
                raw(beside(journal), sent, close=True)
        return ask(journal, {})

    assert during(backend, journal, client) == {"order": {}}


def test_several_clients_at_once(backend, journal):
    """Each gets its own reply."""
    found = []

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(listen, journal, echo, print)
            while not beside(journal).exists():
                await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as clients:
                for number in range(8):
                    clients.start_soon(one, number)
            group.cancel_scope.cancel()

    async def one(number):
        found.append(await anyio.to_thread.run_sync(partial(ask, journal, {"n": number})))

    anyio.run(main, backend=backend)
    assert sorted(each["order"]["n"] for each in found) == list(range(8))


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not tell")
def test_another_user_is_turned_away(backend, journal, monkeypatch):
    """Whoever the system says has connected, if that is neither the owner nor root."""
    monkeypatch.setattr(listener.os, "geteuid", lambda: 12_345)
    real = listener.CREDENTIALS

    class Told:
        size = real.size

        def unpack(self, _):
            return 1, 54_321, 1

    monkeypatch.setattr(listener, "CREDENTIALS", Told())
    assert during(backend, journal, lambda: raw(beside(journal), b"{}\n")) == b""


def test_the_socket_of_a_killed_run_is_replaced(backend, journal):
    """Nobody else can have the journal, so nobody listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(beside(journal)))
    assert beside(journal).exists()
    with pytest.raises(BatchError, match="no run of"):
        ask(journal, {})
    stale = beside(journal).lstat().st_ino

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(listen, journal, echo, print)
            while beside(journal).exists() and beside(journal).lstat().st_ino == stale:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            await anyio.sleep(0.01)
            found = await anyio.to_thread.run_sync(partial(ask, journal, {}))
            group.cancel_scope.cancel()
        return found

    assert anyio.run(main, backend=backend) == {"order": {}}


@pytest.mark.parametrize("taken_by", ["file", "link", "folder"])
def test_what_has_the_name_of_the_socket_is_left_as_it_is(backend, journal, taken_by):
    """The run listens in the user's own folder then, which nobody else can open."""
    path, target = beside(journal), journal.with_name("target")
    if taken_by == "file":
        path.write_text("mine")
    elif taken_by == "link":
        path.symlink_to(target)
    else:
        path.mkdir()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(listen, journal, echo, print)
            while not in_own_folder(journal).exists():  # noqa: ASYNC110
                await anyio.sleep(0.001)
            await anyio.sleep(0.01)
            assert stat.S_IMODE(own_folder().stat().st_mode) == 0o700
            found = await anyio.to_thread.run_sync(partial(ask, journal, {}))
            group.cancel_scope.cancel()
        return found

    assert anyio.run(main, backend=backend) == {"order": {}}
    assert os.path.lexists(path)
    assert not target.exists()
    assert not in_own_folder(journal).exists()


def test_a_folder_that_others_can_open_is_not_used(backend, journal, monkeypatch):
    """The run goes on, and says that it takes no orders."""
    beside(journal).mkdir()
    own_folder().mkdir(mode=0o777)
    own_folder().chmod(0o777)
    said = []
    during(backend, journal, lambda: None, said=said)
    assert "cannot be steered" in said[0]
    with pytest.raises(BatchError, match="no run of"):
        ask(journal, {})


def test_a_folder_that_is_a_link_is_not_used(journal):
    """Somebody else may have put it there."""
    own_folder().symlink_to(journal.parent)
    with pytest.raises(PermissionError):
        address.made_own_folder()


@pytest.mark.parametrize(("folder", "name"), [(180, 20), (180, 95), (20, 150), (5, 250)])
def test_a_long_path(backend, tmp_path, monkeypatch, folder, name):
    """Longer than a socket's may be: by way of its folder, or in the user's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    journal = tmp_path / ("f" * folder) / ("n" * name)
    journal.parent.mkdir()
    journal.touch()
    assert during(backend, journal, lambda: ask(journal, {})) == {"order": {}}


def test_a_relative_path_reaches_the_same_run(backend, journal, monkeypatch):
    """From wherever it is given."""
    monkeypatch.chdir(journal.parent)
    relative = type(journal)(journal.name)
    assert during(backend, journal, lambda: ask(relative, {})) == {"order": {}}
    assert during(backend, relative, lambda: ask(journal, {})) == {"order": {}}


def test_a_run_that_does_not_take_clients_in_goes_on(backend, journal, monkeypatch):
    """As when no more files can be opened: it tries again."""
    monkeypatch.setattr(listener, "BREAK", 0.01)
    failures = [OSError("too many"), anyio.BrokenResourceError()]
    real = listener.SocketListener.from_socket

    async def from_socket(sock):
        inner = await real(sock)
        accept = inner.accept

        async def failing():
            if failures:
                raise failures.pop()
            return await accept()

        inner.accept = failing
        return inner

    monkeypatch.setattr(listener.SocketListener, "from_socket", from_socket)
    assert during(backend, journal, lambda: ask(journal, {})) == {"order": {}}


def test_a_socket_that_cannot_be_used_does_not_end_the_run(backend, journal, monkeypatch):
    """It is said, and nothing is left behind."""

    async def from_socket(_):
        raise OSError("no memory")

    monkeypatch.setattr(listener.SocketListener, "from_socket", from_socket)
    said = []
    anyio.run(listen, journal, echo, said.append, backend=backend)
    assert "no memory" in said[0]
    assert not beside(journal).exists()


def test_a_socket_that_was_removed_or_replaced_is_left(backend, journal):
    """What has its name at the end is somebody else's."""

    def client():
        beside(journal).unlink()
        beside(journal).write_text("mine")

    during(backend, journal, client)
    assert beside(journal).read_text() == "mine"


def test_a_system_without_such_sockets_is_told_in_one_line(journal, monkeypatch):
    """A run says nothing: nobody asked it for orders."""
    said = []

    async def main():
        monkeypatch.delattr(socket, "AF_UNIX")
        await listen(journal, echo, said.append)
        with pytest.raises(BatchError, match="this system has none"):
            ask(journal, {})

    anyio.run(main)
    assert said == []


@pytest.mark.parametrize("reply", [b"", b"nonsense\n", b"[1]\n", b"[" * 60_000 + b"\n"])
def test_a_socket_that_is_not_a_runs(journal, monkeypatch, reply):
    """What does not reply as a run does is said in one line."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(beside(journal)))
        sock.listen()

        def answer():
            client, _ = sock.accept()
            client.recv(100)
            client.sendall(reply)
            client.close()

        import threading

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(BatchError, match="did not take the order"):
            ask(journal, {})
        thread.join()
