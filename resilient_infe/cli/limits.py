"""Limits of a run that differ by model: which one is whose, and what is said of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from ..adapters.http.masking import printable
from ..batch.files.option import Option
from ..batch.files.options import JobOptions
from ..batch.progress import limits_in_words
from ..core.by_model import OTHERS, value_for
from ..core.ids import safe_name
from ..errors import ConfigurationError

ALIKE = 0.8
"""How alike a name must be to one that rows ask for, from 0 to 1, to be taken for a slip."""


def for_models(options: argparse.Namespace, option: Option) -> Any:
    """Return the value of an option: one for all models, or a mapping from model to value."""
    name = option.field
    own = {model: each[name] for model, each in options.limits.items() if name in each}
    return {**own, OTHERS: getattr(options, name)} if own else getattr(options, name)


def notes_on_limits(options: JobOptions, models: Iterable[str]) -> list[str]:
    """Return what to say of limits that differ by model, before anything is sent.

    Args:
        options: those of the run.
        models: the models that rows ask for.

    Raises:
        ConfigurationError: a limit is for a model that no row asks for, and that is spelt almost
            like one that they do.
    """
    asked = {safe_name(model) for model in models}
    named = {
        model for each in options.rates.values() if isinstance(each, Mapping) for model in each
    }
    if isinstance(options.concurrency, Mapping):
        named.update(options.concurrency)
    lines = []
    for model in sorted(named - asked - {OTHERS}):
        near = get_close_matches(model, sorted(asked - named), 1, ALIKE)
        if near:
            raise ConfigurationError(
                f"[limits.{model}] is for a model that no row asks for: do you mean {near[0]}?"
            )
        lines.append(f"[limits.{model}] is not used: no row to send asks for that model")
    if not named and options.account is None:
        return lines
    told = [
        f"{printable(model)} {limits_in_words(_rates_of(options, model))}"
        for model in sorted(asked & named)
    ]
    if asked - named:
        told.append(f"each other model {limits_in_words(_rates_of(options, OTHERS))}")
    if options.account is not None:
        told.append(f"the account {limits_in_words(options.account)}")
    return [*lines, f"limits: {'; '.join(told)}"]


def _rates_of(options: JobOptions, model: str) -> dict[str, Any]:
    return {name: value_for(value, model) for name, value in options.rates.items()}
