"""Limits that differ by model: what each model gets, and which mappings are refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from resilient_infe import Allowance, Slots
from resilient_infe.core.by_model import by_model, differs
from resilient_infe.core.ids import safe_name
from resilient_infe.errors import ConfigurationError


class Policy:
    """Keeps the arguments that it was made with."""

    def __init__(self, **given):
        """Keep them."""
        self.given = given

    def in_use(self, now, /):
        """Never."""
        return False

    def idle(self, now, /):
        """Always."""
        return True


def test_each_model_gets_its_own_value_and_the_others_get_the_star():
    """A call without a model is one of the others."""
    limits = {"rate": {"infe-pulse": 1_200, "infe-titan": 300, "*": 60}, "share": 0.5}
    keyed = by_model(Policy, limits)
    found = {key: keyed.of(key, 0.0).given for key in ("infe-pulse", "infe-titan", "x", None, "*")}
    assert [each["rate"] for each in found.values()] == [1_200, 300, 60, 60, 60]
    assert {each["share"] for each in found.values()} == {0.5}
    assert keyed.names == ("infe-pulse", "infe-titan")


def test_without_a_star_the_others_get_the_usual_value_or_none():
    """A limit is not declared for them, and a count is the usual one."""
    keyed = by_model(Policy, {"rate": {"a": 1}, "slots": {"b": 2}}, {"slots": 64})
    assert keyed.of("a", 0.0).given == {"rate": 1, "slots": 64}
    assert keyed.of("b", 0.0).given == {"rate": None, "slots": 2}
    assert keyed.of("c", 0.0).given == {"rate": None, "slots": 64}


def test_a_model_may_be_named_to_have_no_declared_limit():
    """None is the value of that model, not that of the others."""
    keyed = by_model(Policy, {"rate": {"a": None, "*": 60}})
    assert keyed.of("a", 0.0).given == {"rate": None}


def test_the_mapping_is_copied():
    """What is done to it later changes nothing."""
    limits = {"a": 1, "*": 2}
    keyed = by_model(Policy, {"rate": limits})
    limits.clear()
    assert [keyed.of(key, 0.0).given["rate"] for key in "ab"] == [1, 2]


def test_a_name_that_is_unsafe_to_log_is_found_by_its_safe_form():
    """A partition has the safe form of the model's name."""
    keyed = by_model(Policy, {"rate": {"infe\npulse é": 5, "*": 1}})
    assert keyed.names == ("infe_pulse__",)
    assert (
        keyed.of("infe_pulse__", 0.0).given == keyed.of("infe\npulse é", 0.0).given == {"rate": 5}
    )


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        math.nan,
        math.inf,
        True,
        "600",
        [600],
        {"b": 1},
        b"1",
        pytest.param(10**400, id="large"),
        pytest.param(10**5_000, id="digits"),
    ],
)
def test_a_value_that_is_no_limit_is_refused_with_its_model(value):
    """It raises when the mapping is given, not at the model's first call."""
    for name, where in (("infe-titan", "the model 'infe-titan'"), ("*", "each other model")):
        with pytest.raises(ConfigurationError, match=where):
            by_model(Allowance, {"requests_per_minute": {"infe-pulse": 5, name: value}})


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        ({}, "empty mapping"),
        ({5: 5}, "name of a model"),
        ({None: 5}, "name of a model"),
        ({"": 5}, "name of a model"),
        ({("a", "b"): 5}, "name of a model"),
        ({"a b": 5, "a_b": 6}, "twice"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(mapping, why):
    """The message names the argument."""
    with pytest.raises(ConfigurationError, match=rf"requests_per_minute.*{why}"):
        by_model(Allowance, {"requests_per_minute": mapping})


def test_a_value_for_all_models_is_refused_without_a_model():
    """There is no model to name."""
    with pytest.raises(ConfigurationError, match=r"^a concurrency limit"):
        by_model(Slots, {"limit": 0})
    assert not differs({"limit": 0})
    assert differs({"limit": {"a": 1}})


def test_ten_thousand_models_are_bounded():
    """Only those in use are kept, and one that comes back has its own limit again."""
    limits = {f"model-{number}": number + 1.0 for number in range(10_000)}
    keyed = by_model(Allowance, {"requests_per_minute": limits}, max_keys=16)
    for number in range(0, 10_000, 100):
        keyed.of(f"model-{number}", 0.0)
    assert len(keyed) == 16
    assert keyed.of("model-0", 0.0).statistics(0.0).requests_per_minute == 1.0


NAMES = st.text("ab\n* é", min_size=1, max_size=3)


@given(st.dictionaries(NAMES, st.floats(0.1, 1e6), min_size=1), NAMES)
def test_a_model_gets_what_it_is_named_with_or_what_the_others_get(limits, asked):
    """Whatever the names are, as long as logs can tell them apart."""
    assume(len({name if name == "*" else safe_name(name) for name in limits}) == len(limits))
    keyed = by_model(Policy, {"rate": limits})
    for name, value in limits.items():
        assert keyed.of(name, 0.0).given["rate"] == value
    if safe_name(asked) not in map(safe_name, limits):
        assert keyed.of(asked, 0.0).given["rate"] == limits.get("*")
