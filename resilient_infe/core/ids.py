"""Ids from outside: which of them are safe to log as they are."""

from __future__ import annotations

import re

_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)


def clean_id(value: object) -> str | None:
    """Return an id from outside if it is safe to log as it is, else None."""
    return value if isinstance(value, str) and _SAFE.fullmatch(value) else None
