"""Shows a run of Python code as it goes: by rich, by tqdm, or by a function of the user's."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from .. import aio
from ..core.bounds import shown
from ..errors import ConfigurationError
from .progress import Progress, in_words

INTERVAL = 0.5
"""Seconds between two looks at a run."""


class RichProgress(Protocol):
    """What is used of ``rich.progress.Progress``."""

    def add_task(self, description: str, *, total: float | None) -> Any:
        """Add a bar."""
        ...

    def update(
        self, task_id: Any, *, total: float | None, completed: float, description: str
    ) -> None:
        """Draw it."""
        ...


class TqdmBar(Protocol):
    """What is used of ``tqdm.tqdm``."""

    n: Any
    total: Any

    def set_postfix_str(self, s: str, refresh: bool) -> None:
        """Set the words behind the bar."""
        ...

    def refresh(self) -> Any:
        """Draw it."""
        ...


Shows: TypeAlias = Callable[[Progress], object] | Literal["rich", "tqdm"] | RichProgress | TqdmBar
"""What `run_batch` takes as ``progress=``."""


def ended_of(progress: Progress) -> int:
    """Return how many rows have come to their end."""
    return progress.done + progress.failed


class Shower:
    """Shows how far a run is, now and then and at its end.

    Args:
        shows: how: see `run_batch`.

    Raises:
        ConfigurationError: it is none of the known ways.

    State: the bar. One that fails is logged, and left out from then on.
    """

    def __init__(self, shows: Shows) -> None:
        self._start = starter_for(shows)
        self._shown: Bar | None = None
        self._look: Callable[[], Progress] | None = None

    async def run(self, look: Callable[[], Progress], over: Callable[[], bool]) -> None:
        """Show it until it is over.

        Args:
            look: returns how far the run is.
            over: returns whether it is over.
        """
        runtime, self._look = aio.current(), look
        while not over() and self._look is not None:
            self._show()
            await runtime.sleep_until(runtime.now() + INTERVAL)
        self.close()

    def close(self) -> None:
        """Show the end, and let go of the bar if it was made here."""
        self._show()
        self._look = None
        if self._shown is not None:
            self._shown.close()
            self._shown = None

    def _show(self) -> None:
        if self._look is None:
            return
        try:
            self._shown = self._shown or self._start()
            self._shown.show(self._look())
        except Exception:  # of a user's: the rows are worth more than the bar
            self._look = None
            logging.getLogger("resilient_infe").exception("progress= failed, and is left out")


class Bar(NamedTuple):
    """A bar: what draws it, and what ends it."""

    show: Callable[[Progress], object]
    close: Callable[[], object] = lambda: None


def starter_for(shows: Any) -> Callable[[], Bar]:
    """Return what makes the bar.

    Raises:
        ConfigurationError: it is none of the known ways.
    """
    own = {"rich": _own_rich, "tqdm": _own_tqdm}
    if isinstance(shows, str) and shows in own:
        if find_spec(shows) is None:
            raise ConfigurationError(f"progress={shows!r} needs the package {shows}")
        return own[shows]
    bar: Any = None if isinstance(shows, type) else shows  # a class is called for something else
    if hasattr(bar, "add_task"):
        return lambda: _rich(bar)
    if hasattr(bar, "set_postfix_str"):
        return lambda: _tqdm(bar)
    if callable(bar) and not inspect.iscoroutinefunction(bar):
        return lambda: Bar(bar)
    raise ConfigurationError(
        "progress is 'rich', 'tqdm', a rich.progress.Progress, a bar of tqdm, or a function that "
        f"takes a Progress; got {shown(shows)}"
    )


def _own_rich() -> Bar:
    from rich.progress import BarColumn, TextColumn  # an optional package
    from rich.progress import Progress as Bars

    bars = Bars(BarColumn(), TextColumn("{task.description}"))  # the words have the rest
    bars.start()
    return _rich(bars)._replace(close=bars.stop)


def _own_tqdm() -> Bar:
    from tqdm import tqdm  # an optional package

    bar: Any = tqdm(unit="row")
    return _tqdm(bar)._replace(close=bar.close)


def _rich(bars: RichProgress) -> Bar:
    task = bars.add_task("", total=None)

    def show(progress: Progress) -> None:
        words = in_words(progress).replace("[", r"\[")  # which begins a style
        bars.update(task, total=progress.rows, completed=ended_of(progress), description=words)

    return Bar(show)


def _tqdm(bar: TqdmBar) -> Bar:
    def show(progress: Progress) -> None:
        bar.total, bar.n = progress.rows, ended_of(progress)
        bar.set_postfix_str(in_words(progress), refresh=False)
        bar.refresh()

    return Bar(show)
