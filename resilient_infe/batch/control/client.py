"""Gives an order to a run, from another process."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...adapters.http.masking import printable
from ...aio import wall_time
from ...errors import BatchError
from ..store import is_in_use
from .address import beside, in_own_folder, is_socket, reachable

PATIENCE = 5.0
"""Seconds for a run to reply: it does so at once, unless it is stopped."""

LONGEST_REPLY = 4 * 1024 * 1024
"""Bytes of a reply."""


PART = 64 * 1024
"""Bytes that are read at once."""


def ask(journal: Path, order: Mapping[str, Any]) -> dict[str, Any]:
    """Give an order to the run of a journal, and return what it replies.

    Args:
        journal: the path of the journal.
        order: see `obey`.

    Raises:
        BatchError: nobody takes the order, or it was refused.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise BatchError("a run is steered over a Unix socket, and this system has none")
    places = (beside(journal), in_own_folder(journal))
    for path in places:
        if is_socket(path) and os.geteuid() in (path.lstat().st_uid, 0):
            try:
                reply = _asked(path, json.dumps(order).encode() + b"\n")
            except (ConnectionRefusedError, FileNotFoundError):
                continue  # of a run that was killed
            except OSError as error:
                raise BatchError(_unanswered(journal, error)) from None
            if "error" in reply:
                raise BatchError(printable(str(reply["error"])))
            return reply
    if is_in_use(journal):
        raise BatchError(
            f"the run of {journal} takes no orders: it may still check its input; if it was begun "
            f"from Python, call configure(), pause() and resume() of the run there"
        )
    raise BatchError(f"no run of {journal} is under way: there is nothing to steer")


def _asked(path: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        with reachable(path) as short:
            sock.connect(short)
        sock.sendall(line)
        reply = b""
        until = wall_time() + PATIENCE
        while not reply.endswith(b"\n"):
            part = sock.recv(PART)
            if not part or len(reply) > LONGEST_REPLY or wall_time() > until:
                raise ConnectionError("it hung up")
            reply += part
    try:
        found = json.loads(reply)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConnectionError("it does not reply as a run does")
    return found


def _unanswered(journal: Path, error: OSError) -> str:
    why = "it does not reply" if isinstance(error, TimeoutError) else str(error)
    return f"the run of {journal} did not take the order ({why}): try again"
