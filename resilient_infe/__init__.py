"""Resilience layers for very many concurrent calls to the Infe API, around any async transport.

Everything public is a name of this module. Adapters are loaded when first asked for, so that
importing the package imports no client library; the presets and the events likewise.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .call import Call, Handler, Hold, Layer, Reply
from .layers.breaker import CircuitBreaker
from .layers.classifier import ErrorClassifier
from .layers.concurrency import ConcurrencyLimiter
from .layers.deadline import Deadline
from .layers.rate import RateLimiter
from .layers.request_id import RequestIdLogger
from .layers.retry import Retry
from .layers.timeout import AttemptTimeout
from .policies.allowance import Allowance
from .policies.backoff import ExponentialBackoff
from .policies.budget import RetryBudget
from .policies.circuit import Circuit
from .policies.keyed import Keyed
from .policies.schedule import KindRule
from .policies.slots import Slots
from .stack import Stack
from .stack.options import call_options
from .stack.send import Send
from .verdict import Kind, Limit, Usage, Verdict

if TYPE_CHECKING:
    from . import events, presets
    from .adapters import wrap
    from .adapters.aiohttp import InfeTransport
    from .adapters.httpx import ResilientTransport
    from .adapters.middleware import stack_middleware
    from .batch import run_batch

__version__ = "0.1.0"

__all__ = [
    "Allowance",
    "AttemptTimeout",
    "Call",
    "Circuit",
    "CircuitBreaker",
    "ConcurrencyLimiter",
    "Deadline",
    "ErrorClassifier",
    "ExponentialBackoff",
    "Handler",
    "Hold",
    "InfeTransport",
    "Keyed",
    "Kind",
    "KindRule",
    "Layer",
    "Limit",
    "RateLimiter",
    "Reply",
    "RequestIdLogger",
    "ResilientTransport",
    "Retry",
    "RetryBudget",
    "Send",
    "Slots",
    "Stack",
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
    "InfeTransport": ".adapters.aiohttp",
    "ResilientTransport": ".adapters.httpx",
    "run_batch": ".batch",
    "stack_middleware": ".adapters.middleware",
    "wrap": ".adapters",
}
"""What not every program needs, and where it is."""


def __getattr__(name: str) -> Any:
    """Load what not every program needs when it is first asked for."""
    if name in ("events", "presets"):
        return import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, those that are not loaded yet among them."""
    return sorted([*__all__, "__version__"])
