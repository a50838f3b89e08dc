"""The bridge: one event loop in a thread of its own, for stacks that several threads or loops use.

A policy is not thread-safe, so it belongs to one loop. If threads without a loop, or several loops,
are to share it, its layers run on this loop and only the attempts run where the caller is (see
`passage`). The process has one such loop, not one for each stack: stacks may share policies.

The thread starts with the first callback and ends by itself `LINGER` seconds after the last call.
The loop stays, because policies remember instants and waits of it, and the next thread runs it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

LINGER = 0.2
"""Seconds without a call after which the thread ends. To start one takes about 0.1 ms."""


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that counts as closed in a process that was forked while it ran.

    It cannot really be closed there: that would stop the parent's, with which it shares its epoll.
    """

    lost = False

    def is_closed(self) -> bool:
        """Whether it was closed, or belongs to the parent of this process."""
        return self.lost or super().is_closed()


class Bridge:
    """A loop, and the thread that runs it while calls are under way.

    Attributes:
        loop: the loop.
        calls: the calls under way; only code on the loop changes it.

    State: the process has one, see `post`.
    """

    def __init__(self) -> None:
        self.loop = _Loop()
        self.calls = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._callbacks: deque[Callable[[], object]] = deque()
        self._posts = 0
        self._woken = False

    def post(self, callback: Callable[[], object]) -> None:
        """Run a callback on the loop; any thread may call this.

        The loop is woken once for all callbacks that come before it runs: to wake it is a system
        call, during which another thread takes the interpreter.
        """
        with self._lock:
            self._posts += 1
            self._callbacks.append(callback)
            if self._thread is None:
                self._start()
            woken, self._woken = self._woken, True
        if not woken:
            self.loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._woken = False
        while self._callbacks:
            self._callbacks.popleft()()

    def ask(self, question: Callable[[], T]) -> T:
        """Run a function on the loop, wait for it, and return what it returns, or raise."""
        if self.runs_here():
            return question()
        answer: Future[T] = Future()

        def ask() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        self.post(ask)
        return answer.result()

    def runs_here(self) -> bool:
        """Whether this code runs in the bridge's thread."""
        thread = self._thread
        return thread is not None and thread.ident == threading.get_ident()

    def stop(self) -> None:
        """End the thread now, for the end of the process."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self.loop.call_soon_threadsafe(self.loop.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _start(self) -> None:
        before: list[threading.Thread] = [
            each for each in threading.enumerate() if each.name == NAME
        ]

        def main() -> None:
            for each in before:  # it has decided to end, and may not have
                each.join()
            self.loop.call_later(LINGER, self._end_if_idle, self._posts)
            self.loop.run_forever()

        self._thread = threading.Thread(target=main, name=NAME, daemon=True)
        self._thread.start()

    def _end_if_idle(self, posts: int) -> None:
        with self._lock:
            if self.calls or posts != self._posts:
                self.loop.call_later(LINGER, self._end_if_idle, self._posts)
            elif self._thread is threading.current_thread():
                self._thread = None
                self.loop.stop()


def is_bridge(loop: object) -> bool:
    """Whether this is the loop of a bridge."""
    return isinstance(loop, _Loop)


NAME = "resilient-infe"
"""The name of the thread."""

_bridges: list[Bridge] = []
_lost: list[Bridge] = []
_lock = threading.Lock()


def bridge() -> Bridge:
    """Return the bridge of this process."""
    if _bridges:
        return _bridges[0]
    with _lock:
        if not _bridges:
            made = Bridge()
            _bridges.append(made)
            atexit.register(made.stop)
        return _bridges[0]


def _forget_parents_bridge() -> None:
    global _lock  # noqa: PLW0603  # another thread of the parent may have held it
    _lock = threading.Lock()
    for each in _bridges:
        each.loop.lost = True
        atexit.unregister(each.stop)
    _lost.extend(_bridges)  # to free it would close what it shares with the parent
    _bridges.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_bridge)
