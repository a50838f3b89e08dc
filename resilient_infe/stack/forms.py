"""How the options of layers and policies are written in a configuration, and read from one.

A form reads a plain value into what a constructor takes, and writes that back. Plain are numbers,
texts, true and false, lists and tables: what TOML and JSON can hold. TOML has no null, so an option
that is None is written as ``"none"``. There are five kinds of options:

1. A plain value: a number, a text, a limit per model.
2. An object: a table of its own options, such as the `backoff` of `Retry`.
3. A policy: an object, or one for each partition (`per_partition`, or any of its options by model).
4. A list or a table of one of these.
5. A function: it has no form, and is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from os import PathLike, fspath
from typing import Any, Protocol

from ..core import bounds
from ..core.by_model import OTHERS, by_model
from ..core.given import Given, arguments_of
from ..core.keyed import Keyed
from ..core.verdict import Kind
from ..errors import ConfigurationError

NONE = "none"
"""Stands for None."""

_EMPTY = inspect.Parameter.empty


class Form(Protocol):
    """How one option is written and read."""

    def read(self, value: Any, where: str, /) -> Any:
        """Return what the constructor takes; `where` names the option in an error."""
        ...

    def write(self, value: Any, where: str, /) -> Any:
        """Return a plain value for what the constructor took."""
        ...


class Plain:
    """A value that is plain already. In a table of models, None is ``"none"``."""

    def read(self, value: Any, _: str) -> Any:
        """Return the value; its constructor checks it."""
        if isinstance(value, Mapping):
            return {key: None if each == NONE else each for key, each in value.items()}
        return value

    def write(self, value: Any, where: str) -> Any:
        """Return the value, or raise `ConfigurationError` if it is not plain."""
        if isinstance(value, Mapping):
            return {
                str(key): NONE if each is None else plain(each, where)
                for key, each in value.items()
            }
        return plain(value, where)


class Function:
    """A function, which has no form."""

    def read(self, _: Any, where: str) -> Any:
        """Refuse any value."""
        raise ConfigurationError(f"{where} is a function: pass it in code, not in a configuration")

    write = read


class Table:
    """An object, as a table of the options that differ from their defaults.

    Args:
        cls: its class.
        functions: the options that are functions, or state.
        others: what has the options that the class passes on; None if it names all of its own.
        forms: the options that are not plain, by name.
    """

    def __init__(
        self, cls: Callable[..., Any], *functions: str, others: Callable[..., Any] | None = None,
        **forms: Form,
    ) -> None:  # fmt: skip
        self.cls = cls
        self.parameters = dict(inspect.signature(cls).parameters)
        if others is not None:  # the class passes on what it has no name for
            more = inspect.signature(others).parameters.values()
            rest = inspect.Parameter.VAR_KEYWORD
            own = {each.name: each for each in self.parameters.values() if each.kind is not rest}
            self.parameters = {**{each.name: each for each in more}, **own}
        self.forms: dict[str, Form] = dict.fromkeys(self.parameters, Plain())
        self.forms |= {**dict.fromkeys(functions, Function()), **forms}
        self.names = [name for name in self.parameters if name not in functions]

    def arguments(self, table: Any, where: str) -> dict[str, Any]:
        """Return the arguments in a table of options.

        Raises:
            ConfigurationError: it is no table, or has an option that the class does not have.
        """
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{where} is a table of options; got {bounds.shown(table)}")
        found: dict[str, Any] = {}
        for given, value in table.items():
            name = str(given).replace("-", "_")
            if name not in self.forms:
                raise ConfigurationError(f"{where} has no option {unknown(name, self.names)}")
            default = self.parameters[name].default
            here = f"{where}: {name}"
            if name in found:
                raise ConfigurationError(f"{here} is there twice")
            if isinstance(default, bool) and not isinstance(value, bool):
                raise ConfigurationError(f"{here} is true or false; got {bounds.shown(value)}")
            none = value is None or (value == NONE and self._may_be_none(name))
            found[name] = None if none else self.forms[name].read(value, here)
        return found

    def _may_be_none(self, name: str) -> bool:
        """Whether an option can be None; for another one ``"none"`` is a text, like a jitter."""
        parameter = self.parameters[name]
        return parameter.default is None or "None" in str(parameter.annotation)

    def read(self, value: Any, where: str) -> Any:
        """Return the object of a table."""
        return made(partial(self.cls, **self.arguments(value, where)), where)

    def write(self, value: Any, where: str) -> Any:
        """Return the table of an object."""
        if type(value) is not self.cls:
            plain(value, where)
            raise ConfigurationError(f"{where} is a table; got {bounds.shown(value)}")
        return self.table(self.given(value), where)

    def given(self, subject: Any) -> dict[str, Any]:
        """Return the arguments of an object by name."""
        if isinstance(subject, Given):
            return arguments_of(subject)
        return {name: getattr(subject, name) for name in self.parameters}  # a dataclass

    def table(self, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return the table of arguments, without those that are the default."""
        found: dict[str, Any] = {}
        for name, value in arguments.items():
            default = self.parameters[name].default
            if default is not _EMPTY and _same(value, default):
                continue
            written = None if value is None else self.forms[name].write(value, f"{where}: {name}")
            found[name] = NONE if written is None else written
        return found


class Policy(Table):
    """A policy for all calls, or one for each partition. A number is its first option."""

    OWN = ("per_partition", "max_keys")

    def read(self, value: Any, where: str) -> Any:
        """Return the policy, a `Keyed`, or a number or a table of models as it is."""
        if not isinstance(value, Mapping):
            return value
        table = {str(name).replace("-", "_"): each for name, each in value.items()}
        numbers = bool(value) and all(isinstance(each, int) for each in value.values())
        if numbers and not set(table) & {*self.names, *self.OWN}:
            return dict(value)  # of models
        keyed = table.pop("per_partition", False)
        if not isinstance(keyed, bool):
            raise ConfigurationError(f"{where}: per_partition is true or false; got {keyed!r}")
        max_keys = table.pop("max_keys", None)
        arguments = self.arguments(table, where)
        if not keyed and max_keys is None and not any(map(_is_table, arguments.values())):
            return made(partial(self.cls, **arguments), where)
        more = {} if max_keys is None else {"max_keys": max_keys}
        usual = {
            name: parameter.default
            for name, parameter in self.parameters.items()
            if parameter.default is not _EMPTY
        }
        return made(lambda: by_model(self.cls, arguments, usual, **more), where)

    def write(self, value: Any, where: str) -> Any:
        """Return the plain form of any of these."""
        if not isinstance(value, Keyed):
            return Plain().write(value, where) if _is_plain(value) else super().write(value, where)
        if not value.by_names:
            raise ConfigurationError(
                f"{where} is a Keyed whose function takes the key, which has no plain form: give "
                f"the options by model, as in {{'infe-pulse': 600, '*': 60}}"
            )
        models = (*value.names, OTHERS)
        originals = {name: value.original(None if name == OTHERS else name) for name in models}
        given = {name: self.given(each) for name, each in originals.items()}
        options = [name for name in self.parameters if any(name in each for each in given.values())]
        found: dict[str, Any] = {}
        for name in options:
            default = self.parameters[name].default
            values = {model: given[model].get(name, default) for model in models}
            if all(_same(each, values[OTHERS]) for each in values.values()):
                found |= self.table({name: values[OTHERS]}, where)
            else:
                found[name] = self.forms[name].write(values, f"{where}: {name}")
        usual_keys = inspect.signature(Keyed).parameters["max_keys"].default
        keys = {} if value.max_keys == usual_keys else {"max_keys": value.max_keys}
        return {"per_partition": True, **keys, **found}


class Each:
    """A list of objects, in order; a text stands for its object's first option.

    Args:
        form: of each of them.
    """

    def __init__(self, form: Table) -> None:
        self._form = form

    def read(self, value: Any, where: str) -> Any:
        """Return the objects."""
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigurationError(f"{where} is a list; got {bounds.shown(value)}")
        return [each if isinstance(each, str) else self._form.read(each, where) for each in value]

    def write(self, value: Any, where: str) -> Any:
        """Return the tables of the objects."""
        return [self._form.write(each, where) for each in value]


class Kinds:
    """A list of kinds of outcome."""

    def read(self, value: Any, where: str) -> Any:
        """Return the kinds."""
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, Sequence):
            raise ConfigurationError(f"{where} is a list of kinds; got {bounds.shown(value)}")
        return [kind_of(each, where) for each in names]

    def write(self, value: Any, _: str) -> Any:
        """Return the names of the kinds, sorted."""
        return sorted(str(each) for each in value)


class ByKind:
    """A table from kind of outcome to an object; ``"none"`` for none.

    Args:
        form: of each of them.
    """

    def __init__(self, form: Table) -> None:
        self._form = form

    def read(self, value: Any, where: str) -> Any:
        """Return the objects by kind."""
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where} is a table by kind; got {bounds.shown(value)}")
        return {
            kind_of(name, where): None
            if each is None or each == NONE
            else self._form.read(each, f"{where}.{name}")
            for name, each in value.items()
        }

    def write(self, value: Any, where: str) -> Any:
        """Return the tables by the name of the kind."""
        return {
            str(kind): NONE if each is None else self._form.write(each, f"{where}.{kind}")
            for kind, each in value.items()
        }


def kind_of(name: object, where: str) -> Kind:
    """Return the kind of a name.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if isinstance(name, str) and name in set(Kind):
        return Kind(name)
    raise ConfigurationError(f"{where} names no kind {unknown(str(name), list(Kind))}")


def unknown(name: str, known: Sequence[str]) -> str:
    """Return a name that is unknown, the nearest one that is known, and some of those."""
    near = get_close_matches(name, known, 1)
    hint = f"do you mean {near[0]}? " if near else ""
    return f"{bounds.shown(name)}: {hint}it may be {', '.join(known)}"


def made(make: Callable[[], Any], where: str) -> Any:
    """Return what is made; an error says where.

    Raises:
        ConfigurationError: it cannot be made of these values.
    """
    try:
        return make()
    except ConfigurationError as error:
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigurationError(f"{where}: {error}") from None


def plain(value: Any, where: str) -> Any:
    """Return a value as TOML and JSON can hold it.

    Raises:
        ConfigurationError: it has no such form.
    """
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(each, where) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, where) for each in value]
    what = "a function" if callable(value) else f"a {type(value).__name__}"
    raise ConfigurationError(f"{where} is {what}, which has no plain form: pass it in code")


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | Mapping)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default. True is not 1; a function is itself only."""
    if isinstance(value, bool) or isinstance(default, bool):
        return value is default
    return value is default or (_is_plain(value) and _is_plain(default) and value == default)
