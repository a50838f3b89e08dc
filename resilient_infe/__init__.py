"""Resilience layers for large numbers of concurrent calls to the Infe API.

They work around any async transport. Every public name is a name of this module. Adapters, presets
and events are loaded at their first use, so that importing the package imports no client library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .circuit.circuit import Circuit
from .circuit.layer import CircuitBreaker
from .classify.layer import ErrorClassifier
from .core.call import Call, Handler, Hold, Layer, Reply
from .core.keyed import Keyed
from .core.verdict import Kind, Limit, Usage, Verdict
from .fallback.layer import Fallback
from .fallback.targets import Target
from .hedge.layer import Hedge
from .rate.account import Account
from .rate.allowance import Allowance
from .rate.layer import RateLimiter
from .retry.backoff import ExponentialBackoff
from .retry.budget import RetryBudget
from .retry.layer import Retry
from .retry.schedule import KindRule
from .slots.layer import ConcurrencyLimiter
from .slots.slots import Slots
from .stack import Stack
from .stack.options import call_options
from .stack.portable import PortableSend
from .stack.stack import Send
from .telemetry.request_id import RequestIdLogger
from .timeouts.attempt import AttemptTimeout
from .timeouts.deadline import Deadline
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import events, presets
    from .adapters.aiohttp.middleware import stack_middleware
    from .adapters.httpx.transport import ResilientTransport
    from .adapters.infe.transport import InfeTransport
    from .adapters.wrap import wrap
    from .batch import run_batch
    from .batched import Batched

__all__ = [
    "Account",
    "Allowance",
    "AttemptTimeout",
    "Batched",
    "Call",
    "Circuit",
    "CircuitBreaker",
    "ConcurrencyLimiter",
    "Deadline",
    "ErrorClassifier",
    "ExponentialBackoff",
    "Fallback",
    "Handler",
    "Hedge",
    "Hold",
    "InfeTransport",
    "Keyed",
    "Kind",
    "KindRule",
    "Layer",
    "Limit",
    "PortableSend",
    "RateLimiter",
    "Reply",
    "RequestIdLogger",
    "ResilientTransport",
    "Retry",
    "RetryBudget",
    "Send",
    "Slots",
    "Stack",
    "Target",
    "Usage",
    "Verdict",
    "call_options",
    "errors",
    "events",
    "presets",
    "run_batch",
    "stack_middleware",
    "wrap",
]


_LAZY = {
    "Batched": ".batched",
    "InfeTransport": ".adapters.infe.transport",
    "ResilientTransport": ".adapters.httpx.transport",
    "run_batch": ".batch",
    "stack_middleware": ".adapters.aiohttp.middleware",
    "wrap": ".adapters.wrap",
}
"""Names that are loaded at their first use, and the modules that define them."""


def __getattr__(name: str) -> Any:
    """Load a name at its first use, for those that not every program needs."""
    if name in ("events", "presets"):
        return import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, including those that are not loaded yet."""
    return sorted([*__all__, "__version__"])
