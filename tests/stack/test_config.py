"""A stack as plain data: equal both ways, and clear about what is wrong."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient_infe import (
    Account,
    Allowance,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Fallback,
    Hedge,
    Keyed,
    Kind,
    KindRule,
    RateLimiter,
    RequestIdLogger,
    Retry,
    RetryBudget,
    Slots,
    Stack,
    Target,
    errors,
    presets,
)
from resilient_infe.stack.config import FORMS, LAYERS
from resilient_infe.stack.order import ORDER

NONE = st.just("none")
seconds, count = st.floats(0.001, 1_000), st.integers(1, 1_000)
share, limit = st.floats(0.01, 1.0), st.floats(1, 1e6)
models = st.sampled_from(["a", "gpt-4.1", "infe-titan", "max_items"])


def table(**options):
    """Return tables with any of these options."""
    return st.fixed_dictionaries({}, optional=options)


def per_model(value):
    """Return a value, or one per model."""
    return value | st.dictionaries(models, value, min_size=1, max_size=3).map(
        lambda each: each | {"*": 1}
    )


backoff = table(
    initial=st.floats(0.01, 1.0),
    factor=st.floats(1.0, 4.0),
    maximum=st.floats(1.0, 99.0),
    jitter=st.sampled_from(["full", "equal", "decorrelated", "additive", "none"]),
)
rule = table(backoff=backoff | NONE, max_retries=count | NONE, counted=st.booleans())
kinds = st.sampled_from([str(kind) for kind in Kind])
failures = kinds.filter(lambda kind: kind not in ("ok", "cancelled"))
rates = {
    "requests_per_minute": limit, "tokens_per_minute": limit, "input_tokens_per_minute": limit,
    "output_tokens_per_minute": limit, "requests_per_day": limit, "tokens_per_day": limit,
}  # fmt: skip
more_rates = {"cached_weight": st.floats(0, 1), "follow_headers": st.booleans(), "share": share,
              "burst": seconds | st.just("window"), "trickle": st.floats(0, 0.3)}  # fmt: skip
keyed = {"per_partition": st.booleans(), "max_keys": count}
slots = table(max_waiting=per_model(count), trickle=st.floats(0, 0.3), **keyed)
circuit = table(
    failure_ratio=share, minimum_calls=count, window=seconds, consecutive_failures=count | NONE,
    open_for=per_model(seconds), probes=count, probe_lease=seconds, throttle_below=share,
    slow_after=seconds, shadow=st.booleans(), **keyed,
)  # fmt: skip
allowance = table(
    **{name: per_model(each) for name, each in rates.items()}, **more_rates, **keyed,
    shared=st.booleans(), max_waiting=count,
)  # fmt: skip
OPTIONS = {
    "RequestIdLogger": table(log=st.booleans()),
    "Deadline": table(seconds=seconds),
    "Retry": table(
        max_attempts=count,
        backoff=backoff,
        rules=st.dictionaries(kinds, rule | NONE, max_size=4),
        budget=table(ratio=share, minimum_per_second=st.floats(0, 9), capacity=st.floats(1, 99)),
        max_hint=seconds,
        wait_out_refusals=st.booleans(),
    ),
    "Fallback": st.fixed_dictionaries(
        {"targets": (models | st.fixed_dictionaries({"model": models})).map(lambda each: [each])
         | st.just(["x", {"model": "y", "partition": "z"}])},
        optional={"on": st.lists(failures, min_size=1, unique=True)},
    ),
    "Hedge": table(after=seconds | st.sampled_from(["p50", "p95", "p99.9"]), budget=share),
    "ConcurrencyLimiter": st.fixed_dictionaries(
        {"slots": count | st.dictionaries(models, count).map(lambda each: each | {"*": 3})
         | st.tuples(slots, per_model(count)).map(lambda each: each[0] | {"limit": each[1]})}
    ),
    "RateLimiter": st.one_of(
        table(
            **{name: per_model(each) for name, each in rates.items()}, **more_rates,
            processes=st.integers(1, 3), shared=st.booleans(), max_hint=seconds,
        ),
        table(allowance=allowance, max_hint=seconds),
    ).flatmap(
        lambda each: st.just(each)
        | st.fixed_dictionaries({"requests_per_minute": limit}, optional=more_rates).map(
            lambda account: each | {"account": account}
        )
    ),
    "CircuitBreaker": table(circuit=circuit),
    "ErrorClassifier": table(
        check_attempts=st.integers(0, 10),
        rules=st.just([{"names": ["flaky"], "kind": "transient", "source": "us"}]),
    ),
    "AttemptTimeout": table(
        seconds=seconds, first_chunk=seconds | NONE, idle=seconds | st.just("auto") | NONE
    ),
}  # fmt: skip


@st.composite
def configurations(draw):
    """Return a configuration with any layers, in their order."""
    names = [cls.__name__ for cls in ORDER if draw(st.booleans()) or cls is ErrorClassifier]
    layers = [{"layer": name, **draw(OPTIONS[name])} for name in names]
    return {"layers": layers, "strict": False}


def toml(value):
    """Return a plain value as TOML writes it, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@given(configurations())
def test_a_stack_and_its_configuration_are_equal_both_ways(config):
    """What a stack says of itself makes the same stack, over TOML too."""
    stack = Stack.from_config(config)
    said = stack.to_config()
    assert [each["layer"] for each in said["layers"]] == [
        each["layer"] for each in config["layers"]
    ]
    over_toml = tomllib.loads(f"stack = {toml(said)}")
    assert over_toml["stack"] == said == json.loads(json.dumps(said))
    again = Stack.from_config(over_toml)
    assert again.to_config() == said
    assert str(again) == str(stack)


@given(configurations())
def test_what_is_said_is_what_was_given(config):
    """Each option that is not the default comes back with its value."""
    said = Stack.from_config(config).to_config()
    for given_layer, layer in zip(config["layers"], said["layers"], strict=True):
        for name in set(given_layer) & set(layer) - {
            "targets",
            "on",
            "account",
            "allowance",
            "circuit",
            "slots",
        }:
            if not isinstance(layer[name], dict):
                assert layer[name] == given_layer[name]


def test_every_layer_has_a_form():
    """A new layer must be given one, and a strategy above."""
    assert set(FORMS) == set(ORDER)
    assert set(OPTIONS) == set(LAYERS)


@pytest.mark.parametrize(
    "stack",
    [
        presets.batch(),
        presets.service(),
        presets.service(
            requests_per_minute={"a": 3, "*": 5},
            concurrency={"a": 2},
            account=Account(requests_per_minute=9, tokens_per_day=7),
            max_keys=7,
            log=False,
        ),
        presets.batch(tokens_per_minute=5, processes=3, account={"requests_per_minute": 9}),
        Stack(
            RequestIdLogger(log=False),
            Deadline(),
            Retry(2, ExponentialBackoff(0.5), rules={Kind.TIMEOUT: None, Kind.INVALID: KindRule()},
                  budget=RetryBudget(0.5)),
            Fallback("b", Target("c", "d"), on=[Kind.TIMEOUT]),
            Hedge(2.0),
            ConcurrencyLimiter(Keyed(lambda: Slots(3, max_waiting=4), max_keys=5)),
            RateLimiter(Allowance(60, burst="window")),
            CircuitBreaker(Keyed(Circuit)),
            ErrorClassifier(check_attempts=3),
        ),
    ],
    ids=["batch", "service", "by-model", "account", "by-hand"],
)  # fmt: skip
def test_stacks_made_in_code_have_one(stack):
    """The presets too: each partition has the policy that it had."""
    said = stack.to_config()
    again = Stack.from_config(json.loads(json.dumps(said)))
    assert again.to_config() == said
    assert str(again) == str(stack)


def test_what_configure_changed_is_not_in_it():
    """It is state, like a limit that was learned."""
    stack = presets.batch(requests_per_minute=60)
    said = stack.to_config()
    stack.configure(requests_per_minute=30)
    assert stack.to_config() == said


def test_a_stack_that_was_changed_says_so():
    """`replace` and `without` are other layers."""
    stack = presets.service(requests_per_minute=60).replace(Retry(2)).without(CircuitBreaker)
    said = stack.to_config()["layers"]
    assert {"layer": "Retry", "max_attempts": 2} in said
    assert "CircuitBreaker" not in [each["layer"] for each in said]


async def tag(call, call_next):
    """Be a layer of the user's."""
    return await call_next(call)


class MyRetry(Retry):
    """A layer of the user's that the configuration could not make."""


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([tag], r"layer 1 \(tag\) has no plain form"),
        ([MyRetry()], r"layer 1 \(MyRetry\) has no plain form"),
        ([Retry(uniform=lambda: 0.5)], r"layer 1 \(Retry\): uniform is a function"),
        ([RateLimiter(estimate=lambda _: 1.0)], r"layer 1 \(RateLimiter\): estimate is a function"),
        ([RequestIdLogger(object())], r"layer 1 \(RequestIdLogger\): logger is"),
        ([CircuitBreaker(uniform=lambda: 0.5)], r"\(CircuitBreaker\): uniform is a function"),
        ([ConcurrencyLimiter(Keyed(lambda key: Slots(len(key or "x"))))],
         r"\(ConcurrencyLimiter\): slots is a Keyed"),
        ([Fallback(Target("a", transport=tag))], r"\(Fallback\): targets: transport is a function"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused(layers, message):
    """In one line that names the layer and the option."""
    with pytest.raises(errors.ConfigurationError, match=message) as found:
        Stack(*layers, ErrorClassifier(), strict=False).to_config()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["classify", "check", "mend"])
def test_a_rule_of_the_users_is_refused(name):
    """It is a function, whatever it is for."""
    given = {"check": lambda answer: None} if name == "mend" else {}
    function = (lambda answer: None) if name == "check" else (lambda one, other: None)
    layer = ErrorClassifier(**{**given, name: function})
    with pytest.raises(errors.ConfigurationError, match=r"\(ErrorClassifier\): \w+ is a function"):
        Stack(layer).to_config()


def of(layer, **options):
    """Return a configuration of one layer and the one that each stack has."""
    return {"layers": [{"layer": layer, **options}, {"layer": "ErrorClassifier"}]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "layers is a list of tables"),
        ({"layers": []}, "layers is a list of tables"),
        ({"layers": {"layer": "Retry"}}, "layers is a list of tables"),
        ({"layers": [7]}, "layer 1 is a table with its name"),
        ({"layers": [{"max_attempts": 3}]}, "layer 1 is a table with its name"),
        ({"layer": []}, "no key 'layer': do you mean layers? it may be layers, strict"),
        ({"stack": 7}, "stack is a table"),
        ({"layers": ["ErrorClassifier"], "strict": "yes"}, "strict is true or false; got 'yes'"),
        (7, "the path of a TOML file; got 7"),
        (of("retry"), "layer 1: there is no layer 'retry': do you mean Retry?"),
        (of(["Retry"]), "layer 1: there is no layer"),
        (of("Retry", max_atempts=3), "layer 1 (Retry) has no option 'max_atempts': do you mean"),
        (of("Retry", max_atempts=3), "max_attempts? it may be max_attempts, backoff, rules"),
        (of("Retry", max_attempts=0), "layer 1 (Retry): max_attempts, which counts"),
        (of("Retry", max_attempts="3"), "layer 1 (Retry): max_attempts"),
        (of("Retry", max_attempts=True), "layer 1 (Retry): max_attempts"),
        (of("Retry", **{"max-attempts": 3, "max_attempts": 3}), "max_attempts is there twice"),
        (of("Retry", wait_out_refusals="yes"), "wait_out_refusals is true or false; got 'yes'"),
        (of("Retry", uniform="random"), "uniform is a function"),
        (of("Retry", backoff={"inital": 1}), "no option 'inital': do you mean initial?"),
        (of("Retry", backoff={"initial": -1}), "layer 1 (Retry): backoff: backoff's initial"),
        (of("Retry", backoff=3), "layer 1 (Retry): backoff is a table of options; got 3"),
        (of("Retry", backoff={"jitter": ["full"]}), "layer 1 (Retry): backoff: "),
        (of("Retry", rules={"timeouts": {}}), "no kind 'timeouts': do you mean timeout?"),
        (of("Retry", rules={"timeout": {"max": 3}}), "rules.timeout has no option 'max'"),
        (of("Retry", rules=[1]), "rules is a table by kind"),
        (of("Fallback", targets="b"), "targets is a list; got 'b'"),
        (of("Fallback", targets=[{"transport": "x"}]), "targets: transport is a function"),
        (of("Fallback", targets=[{}]), "targets: Target needs"),
        (of("Fallback"), "layer 1 (Fallback): Fallback needs one or more targets"),
        (of("Fallback", targets=["b"], on=["busy"]), "on names no kind 'busy'"),
        (of("Fallback", targets=["b"], on=7), "on is a list of kinds"),
        (of("Hedge", after="p95%"), "layer 1 (Hedge): "),
        (of("Deadline", seconds=-1), "layer 1 (Deadline): a deadline"),
        (of("Deadline", seconds=float("nan")), "layer 1 (Deadline): a deadline"),
        (of("ConcurrencyLimiter"), "layer 1 (ConcurrencyLimiter): "),
        (of("ConcurrencyLimiter", slots=0), "layer 1 (ConcurrencyLimiter): a concurrency limit"),
        (of("ConcurrencyLimiter", slots={"limit": 3, "max_wait": 1}), "has no option 'max_wait'"),
        (of("ConcurrencyLimiter", slots={}), "layer 1 (ConcurrencyLimiter): slots: "),
        (of("ConcurrencyLimiter", slots={"limit": 3, "per_partition": 1}), "per_partition is true"),
        (of("ConcurrencyLimiter", slots={"limit": 3, "max_keys": 0}), "slots: max_keys"),
        (of("RateLimiter", requests_per_minut=3), "do you mean requests_per_minute?"),
        (of("RateLimiter", requests_per_minute={}), "is an empty mapping"),
        (of("RateLimiter", requests_per_minute={"a": -1}), "(RateLimiter): for the model 'a'"),
        (of("RateLimiter", estimate="len"), "estimate is a function"),
        (of("RateLimiter", account={"requests_per_minut": 1}), "account has no option"),
        (of("CircuitBreaker", circuit={"open_for": 0}), "circuit: open_for"),
        ({"layers": ["ErrorClassifier", "Retry"]}, "Retry must stand outside ErrorClassifier"),
        ({"layers": ["Retry"]}, "there is no ErrorClassifier"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_line(config, message):
    """With the key, the nearest known one, and what is allowed."""
    with pytest.raises(errors.ConfigurationError) as found:
        Stack.from_config(config)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_an_order_that_cannot_work_is_its_own_error():
    """As for a stack in code."""
    with pytest.raises(errors.LayerOrderError):
        Stack.from_config({"layers": ["ErrorClassifier", "Retry"]})


def test_a_file_is_read(tmp_path):
    """With dashes or not; the table of a stack may stand beside others."""
    path = tmp_path / "stack.toml"
    path.write_text(
        "[run]\nordered = true\n[[stack.layers]]\nlayer = 'Retry'\nmax-attempts = 4\n"
        "backoff = { initial = 0.5 }\n[[stack.layers]]\nlayer = 'ErrorClassifier'\n"
    )
    expected = {"layers": [{"layer": "Retry", "max_attempts": 4, "backoff": {"initial": 0.5}},
                           {"layer": "ErrorClassifier"}]}  # fmt: skip
    assert (
        Stack.from_config(path).to_config() == Stack.from_config(str(path)).to_config() == expected
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"layers = [", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        (b"a = " + b"[" * 5_000, "TOML"),
        (b"#" * 70_000, "is over 65,536 bytes"),
        (b"", "layers is a list of tables"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, content, message):
    """In one line, with its path."""
    path = tmp_path / "stack.toml"
    path.write_bytes(content)
    with pytest.raises(errors.ConfigurationError) as found:
        Stack.from_config(path)
    assert message in str(found.value) or "nested too deeply" in str(found.value)
    assert "\n" not in str(found.value)
    with pytest.raises(errors.ConfigurationError, match="No such file"):
        Stack.from_config(tmp_path / "none.toml")


def test_the_file_on_the_page_is_one():
    """The documentation's TOML makes a stack."""
    page = Path(__file__).parents[2] / "docs" / "config.md"
    [toml] = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert len(Stack.from_config(tomllib.loads(toml)).layers) == 4


def test_listeners_are_given_in_code():
    """They are functions, and no part of it."""
    seen = []
    stack = Stack.from_config(
        {"layers": ["RequestIdLogger", "ErrorClassifier"]}, listeners=[seen.append]
    )
    assert stack.listeners == (seen.append,)
    assert "listeners" not in stack.to_config()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([(layer, name) for cls, form in FORMS.items() for name in form.names
                     for layer in [cls.__name__]]),
)  # fmt: skip
@example(None, ("Fallback", "targets"))
def test_no_value_raises_anything_else(value, option):
    """Whatever stands in a file, it is a stack or a configuration error."""
    layer, name = option
    config = {"layers": [{"layer": layer, name: value}], "strict": False}
    with contextlib.suppress(errors.ConfigurationError):
        said = Stack.from_config(config).to_config()
        assert Stack.from_config(said).to_config() == said
