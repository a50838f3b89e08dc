"""What the clients' tests share: telemetry is off, and nothing leaves the machine unnoticed."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or importing it fetches a list of prices
    "OPENAI_AGENTS_DISABLE_TRACING": "1",  # or each run is sent to OpenAI
    "LANGSMITH_TRACING": "false",
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "RAGAS_DO_NOT_TRACK": "true",
}

THEIRS = (
    # litellm's
    "Item '.*' on TypedDict class '.*' is using the `ReadOnly` qualifier:UserWarning",
    "Accessing the 'model_.*' attribute on the instance is deprecated:DeprecationWarning",
    # ragas'
    "`langchain-community` is being sunset:DeprecationWarning",
)

LOOPBACK = {"127.0.0.1", "::1", "localhost", None}

away: list[str] = []
"""Where a client wanted to go that is not this machine."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse, and note, each look-up and each connection of Python's that leads away."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in LOOPBACK:
        away.append(str(host))
        raise ConnectionRefusedError(f"no test goes to {host}")


def pytest_configure(config: pytest.Config) -> None:
    """Let the clients' own warnings pass; every other warning stays an error."""
    for message in THEIRS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


os.environ.update(QUIET)  # before a client is imported
sys.addaudithook(_watch)


@pytest.fixture(scope="session", autouse=True)
def nothing_leaves_the_machine():
    """Fail at the end if a client tried to phone home, be it from a thread of its own."""
    yield
    assert away == []
