"""Plans other limits for the policies of a layer: all is checked before anything changes.

There are four cases:

1. One policy serves all calls: it takes one value, and has none by model.
2. A value for a model, by its name: the model's policy gets it, and keeps it.
3. ``"*"``, for each other model: all models that have the usual limit, which is the one of a model
   that is not named.
4. One value for all models: the same, but no model may have another limit than the usual one. Which
   of them is meant would be a guess.

Policies of models that come later are made with the new limits too: see `Revisions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.by_model import OTHERS, checked_by_model
from ..core.ids import safe_name
from ..core.keyed import Keyed
from ..core.revisions import Revisions
from ..errors import ConfigurationError, WrongLoopError
from .current import runs_here
from .keeper import Kept, keeper_of
from .partitioned import Partitioned

MOST_NAMED = 8
"""Models that an error names."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A limit that is to change.

    Attributes:
        limit: its name.
        model: whose it is; ``"*"`` for each model with the usual limit, None if all calls share it.
        policies: the policies in use that it is of.
        old: the declared limit until now; None if there is none.
        new: the limit from now on.
        revisions: what models that come later get it from; None if all calls share it.
        for_all: whether it is for all models.
    """

    limit: str
    model: str | None
    policies: tuple[Any, ...]
    old: Any
    new: Any
    revisions: Revisions | None = None
    for_all: bool = False

    def remember(self) -> None:
        """Give it to the models that come later."""
        revisions = self.revisions
        if revisions is None:
            return
        if self.model != OTHERS:
            revisions.own[self.model, self.limit] = self.new
            return
        first = revisions.usual.get(self.limit, (self.old, None))[0]
        revisions.usual[self.limit] = first, self.new
        if self.for_all:
            for key in [each for each in revisions.own if each[1] == self.limit]:
                del revisions.own[key]


def planned(
    policies: Partitioned[Any], limit: str, wanted: Any, model: str | None
) -> Iterator[Planned]:
    """Yield what changes; nothing has changed yet.

    Args:
        policies: those of the layer.
        limit: the name of the limit.
        wanted: the new value, or a mapping from model to value.
        model: whose it is; None for all models.

    Raises:
        ConfigurationError: there is no such limit, or it is not clear whose is meant.
        WrongLoopError: a policy is in use in another thread.
    """
    by_model = isinstance(wanted, Mapping)
    if model is not None:
        if by_model:
            raise ConfigurationError(f"{limit} takes one value if model= is given")
        wanted = {model: wanted}
    if policies.one is not None:
        if isinstance(wanted, Mapping):
            raise ConfigurationError(
                f"one limit serves all models here, so {limit} takes one value for all of them"
            )
        check_here(policies.one)
        yield Planned(limit, None, (policies.one,), policies.one.declared(limit), wanted)
        return
    keyed = policies.keyed
    assert keyed is not None
    known = tuple(keyed.remembered())
    for _, policy in known:
        check_here(policy)
    values = checked_by_model(limit, wanted, {}) if isinstance(wanted, Mapping) else {}
    usual = values.pop(OTHERS, None) if isinstance(wanted, Mapping) else wanted
    revisions = keyed.revisions = keyed.revisions or Revisions()
    if usual is not None:
        own = {name for name, each in revisions.own if each == limit} | values.keys()
        yield _usual(keyed, revisions, limit, usual, own, for_all=not isinstance(wanted, Mapping))
    for name, value in values.items():
        found = tuple(policy for key, policy in known if key == name)
        policy = found[0] if found else _sample(keyed, name, limit)
        yield Planned(limit, name, found, policy.declared(limit), value, revisions)


def _usual(
    keyed: Keyed[Any],
    revisions: Revisions,
    limit: str,
    value: Any,
    own: set[str | None],
    *,
    for_all: bool,
) -> Planned:
    first = _sample(keyed, None, limit, original=True).declared(limit)
    now = revisions.usual.get(limit, (first, first))[1]
    known: dict[str | None, Any] = dict(keyed.remembered())
    named = {name: keyed.sample(name) for name in keyed.names if name not in known}
    every = [*known.items(), *named.items()]
    differ = [name for name, each in every if each.declared(limit) != now]
    if for_all and differ:
        shown = ", ".join(safe_name(name or "") for name in differ[:MOST_NAMED])
        raise ConfigurationError(
            f"{limit} is not the same for all models ({shown}): say which is meant, by model=..., "
            f"or as {limit}={{...}}, where {OTHERS!r} is each other model"
        )
    unnamed = set() if for_all else own
    found = tuple(
        each for name, each in known.items() if name not in unnamed and each.declared(limit) == now
    )
    return Planned(limit, OTHERS, found, now, value, revisions, for_all)


def _sample(keyed: Keyed[Any], name: str | None, limit: str, *, original: bool = False) -> Any:
    try:
        return keyed.original(name) if original else keyed.sample(name)
    except Exception as error:  # a user's function of the model may raise anything
        whose = "a call without a model" if name is None else f"the model {safe_name(name)!r}"
        raise ConfigurationError(
            f"{limit}: your function makes no policy for {whose} ({error!r}): name one that it "
            f"knows, by model=..."
        ) from None


def check_here(policy: Kept) -> None:
    """Check that a policy can be changed from here.

    Raises:
        WrongLoopError: its event loop runs in another thread.
    """
    keeper = keeper_of(policy)
    if keeper is not None and not keeper.runtime.is_over() and not runs_here(keeper.runtime):
        raise WrongLoopError(
            "the event loop of this stack runs in another thread: change its limits there, as by "
            "loop.call_soon_threadsafe(functools.partial(stack.configure, ...))"
        )
