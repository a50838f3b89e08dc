"""Raises the timeout error when a timer has cancelled the task; used by both timeout layers."""

from __future__ import annotations

from typing import NoReturn


def raise_in_place_of_cancellation(late: Exception) -> NoReturn:
    """Raise `late` in place of the cancellation that is being handled.

    A cancellation's traceback refers to every frame that it passed through. As the context of
    `late` it would keep everything the hung call held alive for as long as the caller keeps the
    error, so the context is removed.
    """
    try:
        raise late
    finally:
        late.__context__ = None
        del late  # a frame that refers to the exception that it raises is a reference cycle
