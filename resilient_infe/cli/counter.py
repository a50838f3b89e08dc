"""``--tokens-per-row`` and ``--estimate``: how the tokens of a row are counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..adapters.http.masking import printable
from ..core import bounds
from ..errors import ConfigurationError
from ..rate.estimate import estimate_tokens


def counter_for(per_row: int | None, named: str | None) -> Callable[[Any], float]:
    """Return the function that counts the tokens of a request's body.

    Args:
        per_row: tokens of each row, or None.
        named: ``MODULE:FUNCTION``, or None. The module is looked for in the working directory too.

    Raises:
        ConfigurationError: both are given, or the named function does not exist.
    """
    if per_row is not None and named is not None:
        raise ConfigurationError("give --tokens-per-row or --estimate, not both")
    if per_row is not None:
        return lambda _: per_row
    return estimate_tokens if named is None else _imported(named)


def _imported(named: str) -> Callable[[Any], float]:
    module, _, name = named.partition(":")
    if not module or not name:
        raise ConfigurationError(
            f"--estimate takes MODULE:FUNCTION, like my_tokens:count; got {named!r}"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # to import a module is to run it
        raise ConfigurationError(
            f"--estimate {named} cannot be imported: {type(error).__name__}: "
            f"{printable(str(error))}"
        ) from None
    bounds.function(found, 1, f"--estimate {named} must be a function of a request's body")
    counter: Callable[[Any], float] = found
    return counter
