"""Linking: whatever shape a layer has, it gets the call and what it calls next."""

import functools

import pytest

from resilient_infe import Stack
from resilient_infe.call import Call
from resilient_infe.stack.link import link


async def _end(call):
    """Answer with what was asked."""
    return call.payload


async def _plain(call, call_next):
    return ["plain", await call_next(call)]


async def _with_default(call, call_next, extra="default"):
    return [extra, await call_next(call)]


async def _any(*arguments, **_):
    call, call_next = arguments
    return ["any", await call_next(call)]


def _factory(word):
    async def layer(call, call_next):
        return [word, await call_next(call)]

    return layer


class _Object:
    async def __call__(self, call, call_next):
        return ["object", await call_next(call)]

    async def method(self, call, call_next):
        return ["method", await call_next(call)]

    @staticmethod
    async def static(call, call_next):
        return ["static", await call_next(call)]


class _Plain:
    """A layer whose `__call__` is no coroutine function itself but returns a coroutine."""

    def __call__(self, call, call_next):
        return call_next(call)


SHAPES = {
    "plain": (_plain, ["plain", "x"]),
    "default": (_with_default, ["default", "x"]),
    "any": (_any, ["any", "x"]),
    "closure": (_factory("closed"), ["closed", "x"]),
    "object": (_Object(), ["object", "x"]),
    "method": (_Object().method, ["method", "x"]),
    "static": (_Object.static, ["static", "x"]),
    "partial": (functools.partial(_with_default, extra="partial"), ["partial", "x"]),
    "passes on": (_Plain(), "x"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_a_layer_is_called_with_both(run, shape):
    """Functions, closures, methods, objects and partials are all linked alike."""
    layer, expected = SHAPES[shape]
    assert run(lambda: link(layer, _end)(Call("x"))) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_may_be_linked_more_than_once(run, shape):
    """The same layer in two places, and in two stacks, calls what is next in each."""
    layer, expected = SHAPES[shape]
    twice = run(lambda: link(layer, link(layer, _end))(Call("x")))
    assert twice == ([expected[0], expected] if isinstance(expected, list) else expected)
    first = Stack(layer, strict=False).around(_upper)
    second = Stack(layer, strict=False).around(_lower)
    assert run(lambda: first("aB")) != run(lambda: second("aB"))


async def _upper(payload):
    return payload.upper()


async def _lower(payload):
    return payload.lower()


def test_linking_leaves_the_layers_own_function_alone():
    """The user's function keeps its two required parameters."""
    link(_plain, _end)
    assert _plain.__defaults__ is None
    with pytest.raises(TypeError):
        _plain(Call("x"))
