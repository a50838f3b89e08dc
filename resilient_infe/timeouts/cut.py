"""How the end of a timer becomes the error that says so: what both timeouts have in common."""

from __future__ import annotations

from typing import NoReturn


def raise_in_place_of_cancellation(late: Exception) -> NoReturn:
    """Raise `late` in place of the cancellation that is being handled.

    A cancellation refers to every frame that it came through, and an error's context to the
    cancellation. The context is taken off, or all that a hung call held would live as long as the
    error that its caller keeps.
    """
    try:
        raise late
    finally:
        late.__context__ = None
        del late
