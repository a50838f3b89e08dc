"""The two methods of a stack that read and write a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Self

from ..core.shared import Shared
from ..events import Listener


class FromConfig(Shared):
    """The part of a stack that reads and writes configurations."""

    layers: tuple[Any, ...]
    _strict: bool

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | str | PathLike[str], *, listeners: Iterable[Listener] = ()
    ) -> Self:
        """Return the stack of a configuration; `docs/config.md` describes its form.

        Args:
            config: a mapping with ``layers``, a list of tables, outermost first; or the path of a
                TOML file. What stands in a table ``stack`` is read if there is one.
            listeners: as for a `Stack`.

        Raises:
            ConfigurationError: the message names the key, the nearest known one, and what is
                allowed.
            LayerOrderError: the order cannot work.
        """
        from .config import layers_of, table_of  # few programs read one

        table = table_of(config)
        strict = table.get("strict", True)
        make: Any = cls  # the constructor is that of `Stack`
        stack: Self = make(*layers_of(table), listeners=listeners, strict=strict)
        return stack

    def to_config(self) -> dict[str, Any]:
        """Return the configuration of this stack, which JSON and TOML can hold.

        It has the options that the layers were made with, where they differ from the defaults, and
        nothing of their state: no limit that was learned, or was changed by `configure`. Listeners
        are left out.

        Raises:
            ConfigurationError: a layer is a function or a class of your own, or has an option that
                is a function; the message names both.
        """
        from .config import written

        return {
            "layers": [written(layer, number) for number, layer in enumerate(self.layers, 1)],
            **({} if self._strict else {"strict": False}),
        }
