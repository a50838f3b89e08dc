"""Bounds one read of a body that is handed over open: by the call's deadline, and by silence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ...core.call import Call
from ...errors import DeadlineExceeded, StreamStalled

T = TypeVar("T")


async def read_in_time(
    call: Call[Any], read: Callable[[], Awaitable[T]], *, idle: float | None
) -> T:
    """Wait for the next bytes, no longer than to the call's deadline and for `idle` seconds.

    A timer that ends a read cancels it and swallows that cancellation at the end of its block. So
    the code after a ``with`` block runs only if its time is over.

    Args:
        call: the call whose body it is.
        read: waits for bytes once, so that `idle` is between any two of them.
        idle: seconds of silence, or None for no bound.

    Raises:
        DeadlineExceeded: the deadline passed before or during the read.
        StreamStalled: the server kept the body open and sent nothing for as long as is allowed.
    """
    now, deadline = call.runtime.now(), call.deadline
    if deadline is not None and (idle is None or deadline < now + idle):
        if deadline > now:
            with call.runtime.cut_off_at(deadline):
                return await read()
        raise DeadlineExceeded("the call's deadline passed while its body was read")
    if idle is None:
        return await read()
    with call.runtime.cut_off_after(idle, now):
        return await read()
    raise stalled(idle)


def stalled(idle: float) -> StreamStalled:
    """Return the error for a body that was silent for `idle` seconds."""
    return StreamStalled(
        f"the server sent nothing for {idle:g} s and kept the body open (idle of AttemptTimeout); "
        f"what came before is valid, and the request is not sent again"
    )
