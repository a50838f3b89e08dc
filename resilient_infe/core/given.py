"""What an object was made with, so that a stack can be written as a configuration."""

from __future__ import annotations

import functools
import inspect
from typing import Any


class Given:
    """Base of the layers and policies. It keeps the arguments of the constructor.

    They are those of the object's own class: an object of a subclass that has no constructor has
    none.

    Attributes:
        given: the positional arguments, and those by name.
    """

    __slots__ = ("given",)

    given: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the constructor of the subclass keep its arguments."""
        super().__init_subclass__(**options)
        init = vars(cls).get("__init__")
        if init is None:
            return

        @functools.wraps(init)
        def keeping(self: Given, *args: Any, **kwargs: Any) -> None:
            if type(self) is cls:
                self.given = (args, kwargs)
            init(self, *args, **kwargs)

        cls.__init__ = keeping  # type: ignore[assignment, method-assign]


def arguments_of(subject: Given) -> dict[str, Any]:
    """Return the arguments that an object was made with, by name; those left out are not there."""
    args, kwargs = getattr(subject, "given", ((), {}))
    signature = inspect.signature(type(subject))
    found = signature.bind(*args, **kwargs).arguments
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found |= found.pop(parameter.name, {})
    return dict(found)
