"""Takes orders for a run: one line of JSON in, one line out, from its owner alone.

A client cannot hold the run up: a line has a bounded length and a bounded time, and only so many
clients are served at once. What goes wrong here never ends the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketListener, SocketStream

from ...errors import ResilienceError
from .address import beside, in_own_folder, is_socket, made_own_folder, reachable

LONGEST_LINE = 64 * 1024
"""Bytes of an order: limits of a thousand models."""

PATIENCE = 2.0
"""Seconds for which a client is served: it has its order ready when it connects."""

MOST_CLIENTS = 16
"""Clients that are served at once; the next ones wait."""

BACKLOG = 128
"""Clients that wait to be served; a further one is told to try again."""

LAST = 1.0
"""Seconds of that for the reply, which the end of the run does not cut off."""

BREAK = 0.5
"""Seconds without new clients after one could not be taken in, as when no file can be opened."""

CREDENTIALS = struct.Struct("3i")
"""What Linux tells of who connected: process, user, group."""

Obey = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Carries an order out, at once, and returns the reply."""


async def listen(journal: Path, obey: Obey, say: Callable[[str], None]) -> None:
    """Take orders for the run of a journal until it is cancelled.

    Args:
        journal: the path of the journal, which the run has locked.
        obey: carries an order out.
        say: is told if no orders can be taken; the run goes on without them.
    """
    if not hasattr(socket, "AF_UNIX"):
        return  # `ctl` says so
    opened = _opened(journal)
    if opened is None:
        say("this run cannot be steered from outside: no socket can be made beside its journal")
        return
    path, sock = opened
    made = os.fstat(sock.fileno())
    with contextlib.suppress(OSError):
        made = path.lstat()
    try:
        async with await SocketListener.from_socket(sock) as listener:
            await _serve(listener, obey)
    except OSError as error:
        say(f"this run cannot be steered from outside any more: {error}")
    finally:
        sock.close()
        with contextlib.suppress(OSError):
            if os.path.samestat(made, path.lstat()):
                path.unlink()


def _opened(journal: Path) -> tuple[Path, socket.socket] | None:
    """Return a socket that takes clients, with its path; None if there can be none."""
    with contextlib.suppress(OSError):
        return beside(journal), _bound(beside(journal))
    with contextlib.suppress(OSError):
        made_own_folder()
        return in_own_folder(journal), _bound(in_own_folder(journal))
    return None


def _bound(path: Path) -> socket.socket:
    if is_socket(path):
        path.unlink()  # of a run that was killed: this one has the journal's lock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with reachable(path) as short:
            sock.bind(short)
            Path(short).chmod(0o600)
        sock.listen(BACKLOG)  # only from here on can anybody connect
    except BaseException:
        sock.close()
        raise
    return sock


async def _serve(listener: SocketListener, obey: Obey) -> None:
    places = anyio.Semaphore(MOST_CLIENTS)

    async def serve(client: SocketStream) -> None:
        try:
            with contextlib.suppress(Exception):  # a client that has gone, or sends anything
                async with client:
                    with anyio.move_on_after(PATIENCE):
                        reply = _encoded(await _replied(client, obey))
                        with anyio.move_on_after(LAST, shield=True):  # it may end the run
                            await client.send(reply)
        finally:
            places.release()

    async with anyio.create_task_group() as group:
        while True:
            await places.acquire()
            try:
                client = await listener.accept()
            except (OSError, anyio.BrokenResourceError):
                places.release()
                await anyio.sleep(BREAK)
                continue
            if _is_owner(client):
                group.start_soon(serve, client)
            else:
                places.release()
                await anyio.aclose_forcefully(client)


async def _replied(client: SocketStream, obey: Obey) -> Mapping[str, Any]:
    line = b""
    while b"\n" not in line:
        if len(line) > LONGEST_LINE:
            return {"error": f"an order has at most {LONGEST_LINE:,} bytes"}
        line += await client.receive(LONGEST_LINE)
    try:
        order = json.loads(line.partition(b"\n")[0])
        if not isinstance(order, dict):
            raise TypeError("it is no object")
    except (ValueError, TypeError, RecursionError) as error:
        return {"error": f"an order is one line with a JSON object ({error})"}
    try:
        return obey(order)
    except ResilienceError as error:
        return {"error": str(error)}


def _encoded(reply: Mapping[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"


def _is_owner(client: SocketStream) -> bool:
    """Whether the owner has connected, or root, where the system says who has."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # the socket's mode keeps others out
    try:
        sock = client.extra(SocketAttribute.raw_socket)  # noqa: S610  # not Django's
        told = sock.getsockopt(socket.SOL_SOCKET, option, CREDENTIALS.size)
        return CREDENTIALS.unpack(told)[1] in (os.geteuid(), 0)
    except (OSError, struct.error):
        return False
