"""A pytest plugin that wraps every async client that the OpenAI SDK's own suite makes.

A client is wrapped in place at the end of its constructor, so that the suite's own subclasses,
fixtures and ``isinstance`` work: it takes over the attributes of the wrapped copy. The variable
PEERS_STACK chooses the layers: ``limits``, ``retry``, or ``bare`` for no stack.
"""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from typing import Any

import openai.lib.azure
import pytest
from openai._base_client import AsyncAPIClient

from resilient_infe import (
    AttemptTimeout,
    ConcurrencyLimiter,
    ErrorClassifier,
    ExponentialBackoff,
    Kind,
    KindRule,
    RateLimiter,
    Retry,
    Stack,
    wrap,
)
from resilient_infe.adapters.sdk.attempt import SeatedTransport

under_construction: set[int] = set()


def fakes(result: Any, error: BaseException | None) -> Kind | None:
    """Take any object without an error for an answer.

    The suite's fake servers answer a chat completion with ``{"foo": "bar"}``, which is malformed.
    """
    return Kind.OK if isinstance(result, dict) and not result.get("error") else None


MOST_RETRIES = 4
"""What the suite asks for at most when it derives a client from another."""


def stack(name: str, retries: int) -> Stack:
    """Return the layers of a name.

    Args:
        name: of the layers.
        retries: the retries of a `Retry`. It decides on them alone, so whoever has set a number on
            a client says it here again.
    """
    quick = ExponentialBackoff(0.01, 1.0, 0.01)
    rules = dict.fromkeys((Kind.RATE_LIMITED, Kind.SERVER_ERROR), KindRule(quick))
    retry = [Retry(retries + 1, quick, rules=rules, max_hint=1.0)] if name == "retry" else []
    limit = RateLimiter(requests_per_minute=6_000_000)
    return Stack(
        *retry, ConcurrencyLimiter(64), limit, ErrorClassifier(fakes), AttemptTimeout(60.0)
    )


def wrap_in_place(cls: Any, name: str) -> None:
    """Let each instance of a class, and of its subclasses, be a wrapped client."""
    construct = cls.__init__

    @functools.wraps(construct)
    def constructed(self: Any, *args: Any, **kwargs: Any) -> None:
        outermost = id(self) not in under_construction
        under_construction.add(id(self))
        try:
            construct(self, *args, **kwargs)
        finally:
            if outermost:
                under_construction.discard(id(self))
        http = self.__dict__.get("_client")
        if outermost and not isinstance(getattr(http, "_transport", None), SeatedTransport):
            retries = kwargs.get("max_retries", MOST_RETRIES)
            self.__dict__ = wrap(self, stack(name, retries)).__dict__

    cls.__init__ = constructed


def pytest_configure() -> None:
    """Wrap the clients before the suite imports them."""
    name = os.environ.get("PEERS_STACK", "limits")
    if name != "bare":
        for cls in (openai.AsyncOpenAI, openai.lib.azure.AsyncAzureOpenAI):
            assert issubclass(cls, AsyncAPIClient)
            wrap_in_place(cls, name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the async tests: the others never meet a wrapped client."""
    items[:] = [item for item in items if inspect.iscoroutinefunction(getattr(item, "obj", None))]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the id of each test that fails into a file."""
    if report.failed and "PEERS_FAILED" in os.environ:
        with Path(os.environ["PEERS_FAILED"]).open("a") as file:
            file.write(f"{report.nodeid}\n")
