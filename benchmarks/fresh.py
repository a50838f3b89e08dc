"""Measures in processes that have done nothing else, as a program's own loop is.

What ran before in a process stays in it: the pages that its allocator keeps, code that the
interpreter has fitted to somebody else's objects, the free lists. And where things come to lie in
memory is chance, and good for a tenth either way. So a table is measured in a few new processes,
one after the other, and their rounds are put together.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from .measure import Table, joined

PROCESSES = 5
"""New processes that share the rounds of a table."""

LEAST = 2
"""Rounds of a process, at least: what it does first is not what it does for long."""

R = TypeVar("R")

Measure = Callable[..., Coroutine[Any, Any, R]]
"""A coroutine function of a module, since another process has to find it by its name."""


def alone(measure: Measure[R], *args: Any) -> R:
    """Return what `measure(*args)` returns in a new process."""
    context = multiprocessing.get_context("spawn")  # a fork has all that its parent has
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_run, measure, *args).result()


def table(measure: Measure[Table], *args: Any, rounds: int, processes: int = PROCESSES) -> Table:
    """Return the table of so many rounds, each process's share of them measured in it.

    Args:
        measure: is given `args` and the number of rounds, and returns a table.
        args: what else it is given, in front.
        rounds: of all processes together.
        processes: how many, from 1; 0 for none: then this one measures.
    """
    if not processes:
        return asyncio.run(measure(*args, rounds))
    share = max(LEAST, -(-rounds // processes))
    return joined([alone(measure, *args, share) for _ in range(processes)])


def _run(measure: Measure[R], *args: Any) -> R:
    return asyncio.run(measure(*args))
