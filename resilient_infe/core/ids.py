"""Checks ids and names that come from outside before they are logged."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

LONGEST_NAME = 128
"""Characters of a model's name that go into the name of a partition. The rest is cut off."""

_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)

_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+-]")
"""Characters replaced by ``_`` in the name of a partition, because it is logged."""


def clean_id(value: object) -> str | None:
    """Return `value` if it is text that is safe to log unchanged, else None."""
    return value if isinstance(value, str) and _SAFE.fullmatch(value) else None


def model_in(body: Any) -> str | None:
    """Return the model that a request's body names, safe to log; None if it names none.

    It is the partition of a request, whatever client sends it.
    """
    model = body.get("model") if type(body) is dict or isinstance(body, Mapping) else None
    if type(model) is str and len(model) <= LONGEST_NAME:  # nearly always
        return _safe(model) or None
    return (safe_name(model) or None) if isinstance(model, str) else None


def safe_name(name: str) -> str:
    """Return a name, shortened and safe to log."""
    return _safe(name[:LONGEST_NAME])


@functools.lru_cache(maxsize=256)
def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)
