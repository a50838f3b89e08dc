"""Fixtures for pytest: put ``pytest_plugins = ["resilient_infe.testing.plugin"]`` in a conftest.

A test that uses `run` is run twice, on asyncio and on trio, in virtual time::

    def test_it(run):
        async def main(): ...
        assert run(main) == 42
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from . import simulation
from .model import InfeModel
from .record import Record
from .virtual import Backend, run_virtually

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return the name of the event loop; a test that uses this fixture runs on both."""
    return "trio" if request.param == "trio" else "asyncio"


@pytest.fixture
def run(backend: Backend) -> Run:
    """Return a function that runs an async one in virtual time; the test runs on both loops."""
    return lambda function: run_virtually(function, backend)


@pytest.fixture
def infe_model() -> InfeModel:
    """Return a stand-in without limits or faults; `InfeModel` has the options."""
    return InfeModel()


@pytest.fixture
def simulate(backend: Backend) -> Callable[..., Record]:
    """Return `resilient_infe.testing.simulate`; the test runs on both loops."""
    return partial(simulation.simulate, backend=backend)
