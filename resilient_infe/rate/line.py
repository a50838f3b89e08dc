"""The reservations that wait for an allowance, and who of them leaves the burst to others.

While several classes are present, only the highest one may spend the burst. The others are granted
what the bucket could not hold anyway, and so leave it full for the next call of a person. What a
class is guaranteed (the trickle) is granted in any case.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from ..core import bounds
from ..core.fair import Shares
from ..core.priority import ClassQueue, Presence, by_name, queue_for, trickle_of
from ..core.queue import HASTENED, WaitQueue
from ..core.verdict import MINUTE
from ..errors import QueueFull
from .costs import ALL_TOKENS, NOTHING, Costs
from .rates import Rates
from .reservation import Reservation
from .samples import Samples


class Line:
    """The waiting reservations of an allowance.

    Args:
        max_waiting: the number of reservations that may wait, 0 or more; None for no bound.
        trickle: the share that each class below the highest that waits is guaranteed.

    Attributes:
        queue: those that wait: by class, fair among tenants, the oldest calls first.
        ranked: whether a call with a priority has come.
        price: returns what a request costs its tenant, if the limit of an account decides that.
        samples: from where in the queue the next one comes.
        asked: how many calls of each class have come, since a call with a priority came.
        since: the loop time at which a call first had to wait, of those that wait now.
        queued: the sum of their estimated costs, in the order of `DIMENSIONS`.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = (
        "_aside",
        "_classes",
        "_max_waiting",
        "_shares",
        "_trickle",
        "asked",
        "price",
        "queue",
        "queued",
        "ranked",
        "samples",
        "since",
    )  # fmt: skip

    def __init__(self, max_waiting: int | None, trickle: float) -> None:
        if max_waiting is not None:
            bounds.whole(max_waiting, 0, "max_waiting")
        self._max_waiting = max_waiting
        self._trickle = trickle_of(trickle)
        self._shares: Sequence[Shares] | None = None
        self.price: Callable[[Costs], float] | None = None
        self._classes, self.ranked, self.asked = Presence(), False, [0, 0, 0]
        self.queue: WaitQueue[Reservation] | ClassQueue[Reservation] = WaitQueue()
        # Those that stand before all others from a time on, the earliest first.
        self._aside: deque[tuple[float, Reservation]] = deque()
        self.samples = Samples()
        self.since = math.inf
        self.queued: Costs = NOTHING

    @property
    def by_class(self) -> dict[str, int]:
        """The number of waiting reservations by priority; empty until a call has one."""
        return by_name(self.queue.waiting()) if self.ranked else {}

    def note(self, rank: int, now: float) -> None:
        """Note that a call of class `rank` asks; the first one with a priority begins it."""
        self.ranked = True
        self.asked[rank] += 1
        self._classes.note(rank, now)

    def leaves_burst(self, rank: int) -> bool:
        """Whether a class above `rank` is present, for which the burst is kept."""
        return self.ranked and self._classes.above(rank)

    def waits_for_burst(self, head: Reservation) -> bool:
        """Whether the next reservation leaves the burst to others."""
        return self.leaves_burst(head.standing.rank) and not self.queue.owed(head)

    def push(
        self, waiting: Reservation, *, again: bool = False, first_at: float = math.inf
    ) -> None:
        """Add a reservation.

        Args:
            waiting: the reservation, with its standing and its cost.
            again: whether the call was admitted before and comes back for a retry.
            first_at: the loop time from which it stands before all others of its class.

        Raises:
            QueueFull: too many of its class and its tenant wait, and this is not a retry.
        """
        most, queue = self._max_waiting, self.queue
        if most is not None and not again and queue.full(waiting.standing, most):
            raise QueueFull(
                f"{queue.live} calls already wait for the rate limit (max_waiting={most}): send "
                f"fewer calls at once, or raise max_waiting"
            )
        if queue.standing is not waiting.standing:
            self.queue = queue = queue_for(queue, waiting, self._trickle)
        queue.push(waiting)
        if first_at < math.inf:
            self._aside.append((first_at, waiting))
        self._count(waiting.costs, 1.0)

    def move_on(self, now: float) -> None:
        """Let those whose time has come stand before the others."""
        if self.ranked:
            self._classes.look(now)
        while self._aside and now >= self._aside[0][0]:
            self.queue.hasten(self._aside.popleft()[1])
        self._turn()

    def share(self, shares: Sequence[Shares]) -> None:
        """Share what tenants have had with other lines, from now on."""
        if self._shares is shares:
            return
        self._shares = shares
        before, self.queue = self.queue, ClassQueue(self._trickle, shares)
        self.queue.youngest = before.youngest
        while (each := before.pop()) is not None:
            self.queue.push(each)

    def pop(self, waiting: Reservation) -> None:
        """Take out the next reservation of its class, which is granted."""
        if isinstance(self.queue, ClassQueue):
            self.queue.pop_next(waiting)
        else:
            self.queue.pop()
        self._count(waiting.costs, -1.0)
        if self.samples.left and waiting.place == HASTENED:
            self.samples.left -= 1
            self._turn()

    def remove(self, waiting: Reservation) -> None:
        """Take out a reservation that is not granted; one that has left stays out."""
        if not waiting.gone:
            self.queue.remove(waiting)
            self._count(waiting.costs, -1.0)

    def clear(self) -> None:
        """Forget who waits."""
        self.queue.clear()
        self._aside.clear()
        self.queued = NOTHING

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self.since += seconds
        self._classes.rebase(seconds)
        self.samples.rebase(seconds)

    def note_refused(self, refused: Reservation, now: float, *, asks: bool) -> None:
        """Note a 429: the next call may be a sample. See `Samples.refused`."""
        self.samples.refused(refused.granted_at, now, sample=refused.place == HASTENED, asks=asks)
        self._turn()

    def tries(self, refused: Reservation) -> bool:
        """Whether a refused call was the head, tried alone; see `Samples.is_trial`."""
        return self.samples.is_trial(refused.granted_at, sample=refused.place == HASTENED)

    def note_let_in(self, passed: Reservation) -> None:
        """Note that a call was let in, in a time in which others are refused."""
        self.samples.let_in(passed.granted_at, sample=passed.place == HASTENED)

    def _turn(self) -> None:
        """Let a call from anywhere in the queue stand first, if the next one is to be a sample."""
        head = self.queue.head() if self.samples.left else None
        if head is not None and head.place != HASTENED:
            sample = self.queue.untried(self.samples.part)
            if sample is not None:
                self.queue.hasten(sample)

    def _count(self, costs: Costs, sign: float) -> None:
        first, second, third, fourth = self.queued
        requests, tokens, inputs, outputs = costs
        self.queued = (
            first + sign * requests,
            second + sign * tokens,
            third + sign * inputs,
            fourth + sign * outputs,
        )


def even_at(rates: Rates, costs: Costs) -> float:
    """Return the loop time from which a request leaves the burst to others.

    Only windows of up to a minute count: a day's is not refilled while anybody waits.
    """
    ready = -math.inf
    for each in rates.windows:
        if each.period <= MINUTE:
            ready = max(ready, each.even_at(costs[each.index] * each.ratio))
    return ready


def cost_for_tenant(rates: Rates, costs: Costs) -> float:
    """Return what a request costs its tenant, in requests: of its parts, the scarcest one."""
    metered = [each for each in rates.windows if each.index and each.paced]
    requests = rates.requests
    if not metered:
        return 1.0
    if requests is None:
        return max(1.0, costs[ALL_TOKENS])
    parts = (costs[each.index] * each.ratio * each.period / each.limit for each in metered)
    return max(1.0, requests.limit / requests.period * max(parts))
