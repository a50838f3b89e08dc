"""Checks ids that come from outside before they are logged."""

from __future__ import annotations

import re

_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)


def clean_id(value: object) -> str | None:
    """Return `value` if it is text that is safe to log unchanged, else None."""
    return value if isinstance(value, str) and _SAFE.fullmatch(value) else None
