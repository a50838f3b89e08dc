"""What a run can be told, and what it replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from ...core.ids import safe_name
from ...errors import ConfigurationError
from ...rate.snapshots import AllowanceStatistics
from ...stack.configure import LIMITS
from ...stack.stack import Stack
from ..run import BatchRun

ACTIONS = ("pause", "resume", "drain")
"""What a run can be told to do."""

FIELDS = ("limits", "model", "action")
"""What an order may have."""


class Steered(Protocol):
    """A job whose run can be told something."""

    @property
    def stack(self) -> Stack:
        """What it sends with."""
        ...

    @property
    def under_way(self) -> BatchRun[Any, Any] | None:
        """The run; None before it begins."""
        ...


def obey(job: Steered, order: Mapping[str, Any]) -> dict[str, Any]:
    """Carry an order out; all of it or nothing. One without fields changes nothing.

    Args:
        job: whose run it is for.
        order: ``limits`` by name, as `Stack.configure` takes them; ``model``, whose they are; and
            an ``action``.

    Returns:
        What has changed, and how the run stands.

    Raises:
        ConfigurationError: it is not such an order, or there is nothing to change.
    """
    unknown = next((name for name in order if name not in FIELDS), None)
    if unknown is not None:
        raise ConfigurationError(f"an order has no {safe_name(unknown)!r}")
    limits, action = order.get("limits") or {}, order.get("action")
    if not isinstance(limits, Mapping) or (action is not None and action not in ACTIONS):
        raise ConfigurationError(f"an order has limits by name, and one of {', '.join(ACTIONS)}")
    unknown = next((name for name in limits if name not in LIMITS), None)
    if unknown is not None:
        raise ConfigurationError(
            f"there is no limit {safe_name(str(unknown))!r}: give one of {', '.join(LIMITS)}"
        )
    run = job.under_way
    if run is None and (limits or action):
        raise ConfigurationError("the run is about to begin: ask again")
    if run is not None and action is not None and run.state == "draining":
        raise ConfigurationError("the run comes to its end already: begin it again to go on")
    changes = []
    if run is not None and limits:
        known: dict[str, Any] = dict(limits)
        changes = [asdict(each) for each in run.configure(model=order.get("model"), **known)]
    elif order.get("model") is not None:
        raise ConfigurationError("a model without a limit: say which of its limits to change")
    if run is not None and action is not None:
        {"pause": run.pause, "resume": run.resume, "drain": run.drain}[action]()
    return {"changes": changes, **standing_of(job)}


def standing_of(job: Steered) -> dict[str, Any]:
    """Return how a run stands: its state, its limits, and what is under way."""
    statistics = job.stack.statistics()
    models: dict[str, Any] = {}
    for name in {**statistics.allowances, **statistics.slots}:
        rates, slots = statistics.allowances.get(name), statistics.slots.get(name)
        told = models[name or ""] = {"limits": [], "learned": None, "in_flight": 0, "waiting": 0}
        if rates is not None:
            told |= _limits(rates)
            told["in_flight"], told["waiting"] = rates.outstanding, rates.waiting
        if slots is not None:
            told["concurrency"] = slots.limit
            told["waiting"] += slots.waiting
    account = statistics.account
    return {
        "state": "beginning" if job.under_way is None else job.under_way.state,
        "models": models,
        "account": None if account is None else _limits(account),
    }


def _limits(allowance: AllowanceStatistics) -> dict[str, Any]:
    learned = allowance.learned
    return {
        "limits": [asdict(each) for each in allowance.limits],
        "learned": learned and {"per_minute": learned, "dimension": allowance.learned_dimension},
    }
