"""Which partition a request belongs to: the model that it names, whatever client sends it.

Most providers limit an account, and each of its models. So neither the key nor the server is in
the partition: two keys of one account share its limits, as they do at the provider. For two
accounts, or two servers, `wrap` takes the name of a partition, or a function of the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from ...core import bounds
from ...core.call import Call
from ...core.ids import safe_name
from ...errors import ConfigurationError
from ...stack.options import current_options
from .request import last_mask

PartitionOf: TypeAlias = str | Callable[[Any], str | None]
"""The name of a partition, or a function that returns it for a request; None: the model."""

_MODEL = re.compile(r"^[^?]*?/(?:(?:deployments|engines)/([^/?]+)|models/([^/?:]+):)")
"""A model in a path: ``/deployments/NAME/`` (Azure), ``/models/NAME:generateContent`` (Google)."""


class Partitions:
    """Finds the partition of each request of a client.

    Args:
        given: the name of a partition, or a function that takes the request and returns it; None
            for the model.

    Raises:
        ConfigurationError: it is something else.

    State: none.
    """

    __slots__ = ("_given",)

    def __init__(self, given: PartitionOf | None) -> None:
        text: object = given
        if text is not None and not isinstance(text, str):
            what = "partition must be a text, or a function that takes a request and returns one"
            bounds.function(given, 1, what)
        if text == "":
            raise ConfigurationError("partition is empty: leave it out, and it is the model")
        self._given = given

    def place(self, call: Call[Any], request: Callable[[], Any], model: str | None) -> None:
        """Set the call's partition, unless `call_options` sets one.

        Args:
            call: the call, not yet sent.
            request: returns what the user's function takes.
            model: the model that the request names; None or empty if it names none.

        Raises:
            ConfigurationError: the user's function returned something other than a text or None.
        """
        options = current_options()
        if options is not None and options.partition is not None:
            return
        found: object = self._given
        if callable(found):
            found = found(request())
            if found is not None and not isinstance(found, str):
                raise ConfigurationError(
                    f"partition= must return a text, or None for the model; it returned "
                    f"{bounds.shown(found)}"
                )
        call.partition = str(found) if found else model or None


def model_in_path(path: str) -> str:
    """Return the model that a URL's path names, safe to log; empty if it names none."""
    found = _MODEL.match(path)
    if found is None:
        return ""
    name, mask = safe_name(found[1] or found[2]), last_mask()
    return name if mask is None else mask.text(name)  # a redirect's path may quote the key
