"""Shows how far a run is, on stderr: drawn on a terminal, as lines elsewhere, as JSON if asked."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

from ..aio import wall_time
from ..batch.progress import Progress, in_words
from ..events import Event
from ..telemetry.log import level_of


def write(text: str) -> None:
    """Write to stderr; where nobody reads it any more, the run goes on without."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


class Display(Protocol):
    """Something that shows a run; `interval` is the seconds between two looks at it."""

    interval: float

    def show(self, progress: Progress) -> None:
        """Show how far it is."""
        ...

    def say(self, text: str, level: int = logging.INFO) -> None:
        """Tell something once."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


class Silent:
    """Says nothing but what is told once."""

    interval = 60.0

    def show(self, progress: Progress) -> None:
        """Show nothing."""

    def say(self, text: str, level: int = logging.INFO) -> None:  # noqa: ARG002
        """Write a line."""
        write(f"{text}\n")

    def close(self) -> None:
        """There is nothing to give back."""


class Lines(Silent):
    """A line every few seconds, for logs."""

    interval = 5.0

    def show(self, progress: Progress) -> None:
        """Write a line."""
        write(f"{in_words(progress)}\n")


class JsonLines:
    """One JSON object a line: how far it is, and every event of the stack but the routine ones."""

    interval = 5.0
    routine = False

    def __call__(self, event: Event) -> None:
        """Write an event."""
        self._write(event.name, event.as_dict(), level_of(event))

    def show(self, progress: Progress) -> None:
        """Write how far it is."""
        self._write("progress", asdict(progress))

    def say(self, text: str, level: int = logging.INFO) -> None:
        """Write a message."""
        self._write("message", {"message": text}, level)

    def close(self) -> None:
        """There is nothing to give back."""

    def _write(self, name: str, fields: dict[str, Any], level: int = logging.INFO) -> None:
        now = datetime.fromtimestamp(wall_time(), UTC).isoformat(timespec="milliseconds")
        head = {
            "ts": now.replace("+00:00", "Z"),
            "level": logging.getLevelName(level).lower(),
            "event": name,
        }
        write(json.dumps(head | fields, default=str) + "\n")


class Drawn:
    """A bar and a line of words, drawn by rich."""

    interval = 0.2

    def __init__(self) -> None:
        """Draw nothing yet."""
        from rich.console import Console  # an optional package
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), refresh_per_second=5, transient=True)
        self._live.start()

    def show(self, progress: Progress) -> None:
        """Draw how far it is."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        ended = progress.done + progress.failed
        style = "yellow" if progress.waits else "cyan"
        words = Text(in_words(progress), style=style)
        shown = Table.grid()
        if progress.rows:
            shown.add_row(ProgressBar(progress.rows, ended, width=60))
        shown.add_row(words)
        with contextlib.suppress(OSError):
            self._live.update(shown)

    def say(self, text: str, level: int = logging.INFO) -> None:  # noqa: ARG002
        """Write a line above."""
        with contextlib.suppress(OSError):
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop drawing."""
        with contextlib.suppress(OSError):
            self._live.stop()


def display_for(*, quiet: bool, json_log: bool) -> Display:
    """Return what fits the options and where stderr goes to."""
    if json_log:
        return JsonLines()
    if quiet:
        return Silent()
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        return Drawn()
    return Lines()
