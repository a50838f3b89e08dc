"""A ledger of the costs in the last window, with each correction made where its cost was taken.

A bucket does not record *when* a cost was taken. So if part of an estimate comes back much later,
the bucket alone would admit that much more in a window in which the estimate never counted. The
ledger divides the window into slices, 240 of 0.25 s for a minute, and adds each cost to the slice
in which it was taken. A correction changes that slice. There are three cases:

1. The real cost is lower, and the slice is still in the window. The sum of the window falls, so the
   window admits that much more. This is right: those units were never spent in it. The sum stays
   within the limit, since each later cost is admitted only if it fits.
2. The real cost is higher, and the slice is still in the window. The sum rises, and may now exceed
   the limit by as much as the calls in flight were under-estimated. Nothing more is admitted until
   enough has left the window.
3. The slice has left the window. The correction changes nothing: no cost that is admitted from now
   on is in one window with it.

For example, with a limit of 1,000 a minute, a cost of 1,000 taken at 0 s leaves room for the next
unit at 60.25 s. If its real cost is 400, there is room for 600 at once.
"""

from __future__ import annotations

import math
from collections import deque

SLICES = 240
"""The number of slices in a window; for a minute, each is a quarter of a second."""


class Slice:
    """The costs that were taken in one part of the window.

    Attributes:
        start: the loop time at which it starts; minus infinity once it has left the window.
        spent: the sum of its costs.
        reserved: what was reserved for those of its requests that are in flight.
        open, squares: the sum of their estimates, and that of the squares of these.
        ahead: the seconds by which its sends were ahead of an even pace, at most; see `Depth`.
        sent: how many of its requests the server did not refuse.
    """

    __slots__ = ("ahead", "open", "reserved", "sent", "spent", "squares", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.spent = self.ahead = self.reserved = self.open = self.squares = 0.0
        self.sent = 0


class Ledger:
    """The costs of the last window, by slice.

    Args:
        window: the length of the window in seconds, above 0.
        slices: the number of slices in it, from 1. More make it use more of the limit: a cost
            counts for up to a slice longer than the window.

    Attributes:
        newest: the newest slice. Its start is infinity while there is none.
        end: the loop time at which the newest slice ends. A cost taken from then on needs `move`.
        total: the sum of all slices.
        oldest: the start of the oldest slice in the window; infinity while there is none.
        open: what the slices before the newest one have of this.
        window: the length of the window in seconds.

    State: inside the bucket that owns it.
    """

    __slots__ = ("_count", "_kept", "_past", "_reserved", "_slice", "_slices", "_squares", "end",
                 "newest", "oldest", "open", "total", "window")  # fmt: skip

    def __init__(self, window: float, slices: int = SLICES) -> None:
        self.window = window
        self.total = 0.0
        # What the slices have of these, without the newest: it is added when the next one starts.
        self._reserved = self.open = self._squares = 0.0
        self._count, self._slice = slices, window / slices
        self._slices: deque[Slice] = deque()
        # What has left a window that was made shorter, for when it is made longer again.
        self._kept, self._past = window, deque[Slice]()
        self.newest, self.oldest = Slice(math.inf), math.inf
        self.end = -math.inf

    def add(self, cost: float, now: float) -> None:
        """Add a cost that is taken at `now`."""
        if now >= self.end:
            self.move(now)
        self.newest.spent += cost
        self.total += cost

    def move(self, now: float) -> None:
        """Start the slice that contains `now`, and drop the slices that have left the window."""
        self._forget(now)
        before, start = self.newest, now // self._slice * self._slice
        if self._slices:
            start = max(start, self._slices[-1].start)
        else:
            self.oldest = start
        self._reserved += before.reserved
        self.open += before.open
        self._squares += before.squares
        self.newest = Slice(start)
        self._slices.append(self.newest)
        self.end = start + self._slice

    def correct(self, part: Slice, cost: float) -> None:
        """Add `cost`, which may be negative, to a slice; the sum changes if it is in the window."""
        # A slice never falls below 0: the other costs in it were not given back.
        change = cost if cost > -part.spent else -part.spent
        part.spent += change
        if part.start >= self.oldest:
            self.total += change

    def ended(self, part: Slice, estimate: float, reserved: float, extra: float) -> None:
        """Correct what `Window.take` noted: a request has ended, and cost `extra` more."""
        square = estimate * estimate
        change = extra if extra > -part.spent else -part.spent
        part.spent += change
        part.reserved -= reserved
        part.open -= estimate
        part.squares -= square
        if part is self.newest:
            self.total += change
        elif part.start >= self.oldest:
            self.total += change
            self._reserved -= reserved
            self.open -= estimate
            self._squares -= square

    def in_flight(self) -> tuple[float, float, float]:
        """Return what is reserved for what is in flight, its estimates, and their squares."""
        last = self.newest
        return self._reserved + last.reserved, self.open + last.open, self._squares + last.squares

    def clear(self) -> None:
        """Forget all costs; what is corrected later changes nothing."""
        for part in (*self._past, *self._slices):
            part.start = -math.inf
        self._past.clear()
        self._slices.clear()
        self._forget(-math.inf)

    def parts(self, now: float) -> list[tuple[float, float]]:
        """Return when each slice of the window that ends at `now` ended, and what it cost."""
        self._forget(now)
        return [
            (min(now, part.start + self._slice), part.spent)
            for part in self._slices
            if part.spent > 0.0
        ]

    def sends(self, now: float) -> list[tuple[float, int]]:
        """Return when each slice of the window that ends at `now` ended, and its requests."""
        self._forget(now)
        return [(min(now, part.start + self._slice), part.sent) for part in self._slices]

    def abandon(self) -> None:
        """Forget what is in flight, because its loop was closed."""
        for part in (*self._past, *self._slices):
            part.reserved = part.open = part.squares = 0.0
        self._reserved = self.open = self._squares = 0.0

    def room_at(self, cost: float, limit: float) -> float:
        """Return the loop time from which `cost` fits under `limit`; minus infinity if it does."""
        excess = self.total + cost - limit
        # A sum of many floats is not exact, so a millionth of the limit does not count.
        if excess <= limit * 1e-6:
            return -math.inf
        for part in self._slices:
            excess -= part.spent
            if excess <= limit * 1e-6:
                return part.start + self._slice + self.window
        return -math.inf

    def spent(self, now: float) -> float:
        """Return the sum of the costs in the window that ends at `now`."""
        self._forget(now)
        return self.total

    def within(self, start: float, end: float) -> float:
        """Return the cost between two loop times; a slice that is partly inside counts in part."""
        width, total = self._slice, 0.0
        for each in self._slices:
            inside = min(end, each.start + width) - max(start, each.start)
            if inside > 0:
                total += each.spent * inside / width
        return total

    def unrefused(self, since: float, before: Slice) -> bool:
        """Whether a request that was sent since a loop time, and before a slice, is not refused."""
        for part in reversed(self._slices):
            if part.start < since:
                return False
            if part.sent > 0 and part.start < before.start:
                return True
        return False

    def resize(self, window: float, now: float) -> None:
        """Change the length of the window; what was taken stays, up to the first length."""
        slices, width = (*self._past, *self._slices), window / self._count
        self._past.clear()
        self._slices.clear()
        self.total = self._reserved = self.open = self._squares = 0.0
        for part in slices:
            part.start += self._slice - width  # it ends when it did: then all of it was taken
            self._slices.append(part)
            self.total += part.spent
            if part is not self.newest:
                self._reserved += part.reserved
                self.open += part.open
                self._squares += part.squares
        self.window, self._slice, self.end = window, width, -math.inf
        self._forget(now)

    def rebase(self, seconds: float) -> None:
        """Move every slice by `seconds`, to follow another clock."""
        self.end += seconds
        self.oldest += seconds
        for each in (*self._past, *self._slices):
            each.start += seconds

    def _forget(self, now: float) -> None:
        # A slice counts until its end has left the window, so a cost counts for up to one slice
        # longer than the window. The error is on the safe side.
        while self._slices and self._slices[0].start + self._slice + self.window <= now:
            left = self._slices.popleft()
            if self.window < self._kept:
                self._past.append(left)
            else:
                left.start = -math.inf
            self.total -= left.spent
            self._reserved -= left.reserved
            self.open -= left.open
            self._squares -= left.squares
        if self._slices:
            self.oldest = self._slices[0].start
        else:  # the newest one has left too
            self.total = self._reserved = self.open = self._squares = 0.0
            self.newest, self.oldest = Slice(math.inf), math.inf
            self.end = -math.inf
        while self._past and self._past[0].start + self._slice + self._kept <= now:
            self._past.popleft().start = -math.inf
