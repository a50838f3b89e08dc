"""Fixtures for the tests of what is seen of a stack from outside."""

from __future__ import annotations

import pytest
from seen import Seen


@pytest.fixture
def seen():
    """Return providers of OpenTelemetry that keep what they get."""
    made = Seen()
    yield made
    made.close()
