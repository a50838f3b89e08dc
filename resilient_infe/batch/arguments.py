"""What type checkers know of the arguments of `run_batch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypedDict

from ..core.priority import Priority
from .prices import Price
from .result import Row
from .showing import Shows


class Options(TypedDict, Generic[Row], total=False):
    """The arguments of `run_batch` on which the type of a result does not depend."""

    request: Callable[[Row], Any] | None
    row_id: Callable[[Row], str] | None
    partition: Callable[[Any], str | None] | None
    model: str | None
    ordered: bool
    in_memory: int
    deadline: float | None
    priority: Priority
    tenant: str | None
    price: Price | None
    max_cost: float | None
    max_tokens: int | None
    settings: Mapping[str, Any] | None
    retry_failed: bool
    replay: bool
    keep_going: bool
    progress: Shows | None
