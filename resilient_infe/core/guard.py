"""What a layer that guards a call says, and the one coroutine that runs such layers.

Most layers do the same three things around what they call: they let the call in, now or later; they
hold something for it; they give that back when it ends. Such a layer is a `Guard`: it says `enter`,
`wait` and `leave`, and never calls on by itself. So guards that stand next to each other can run in
one coroutine, instead of one each, whether a call is free, waits, is refused or fails.

That coroutine is generated, as `dataclasses` generates ``__init__``: Python has no way to nest `n`
``try`` statements but to write them. ADR 0010 has the other forms that were tried, with figures.
"""

from __future__ import annotations

import functools
import linecache
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from .call import Call, Handler
from .verdict import SUCCESS

H = TypeVar("H")

MOST = 8
"""Guards in one coroutine: CPython nests at most 20 blocks, and a guard that repeats has three.
Both presets have eight."""


class Guard(Generic[H]):
    """A layer that lets calls in and takes back what they held; the base of most layers here.

    In a `Stack` a guard shares a coroutine with its neighbours. It can also be awaited like any
    other layer, ``await guard(call, call_next)``, and does the same there.
    """

    __slots__ = ()

    def enter(self, call: Call[Any]) -> H | None:
        """Let the call in at once, and return what it holds.

        None means that the call must `wait`. From a guard without `wait` it means that the call
        holds nothing: then nothing is taken back either.

        Raises:
            Refused: the call is not let in.
        """
        raise NotImplementedError

    async def wait(self, call: Call[Any]) -> H:
        """Wait until the call is let in, and return what it holds; asked only after `enter`."""
        raise NotImplementedError

    def leave(self, call: Call[Any], held: H, result: Any, error: BaseException | None, /) -> None:
        """Take back what the call held: called exactly once for each call that holds something.

        Args:
            call: the call.
            held: what `enter` or `wait` returned.
            result: what came from inside, where `error` is None.
            error: what was raised inside, or None. It goes on to the guard outside, unless this
                one raises another in its place.
        """
        raise NotImplementedError

    async def __call__(self, call: Call[Any], call_next: Handler[Any, Any]) -> Any:
        """Run alone around `call_next`."""
        return await guarded((self,), call_next)(call)


class Repeater(Guard[H]):
    """A guard that may run what it guards again.

    Most calls succeed at once, so it need hold nothing at first: `enter` may return None.
    """

    __slots__ = ()

    def begin(self, call: Call[Any], /) -> H:
        """Return what is held from the first failure on, where `enter` returned None."""
        raise NotImplementedError

    def again(self, call: Call[Any], held: H, error: Exception | None, /) -> float | None:
        """Return the instant at which to run it again, or None to keep what came.

        It is asked when something was raised, or when the verdict is not a success.

        Args:
            call: the call.
            held: what `enter` or `begin` returned.
            error: what was raised inside, or None where there is a result.
        """
        raise NotImplementedError

    async def pause(self, call: Call[Any], held: H, until: float, /) -> None:
        """Wait until the instant that `again` returned, and make the call ready for another run."""
        raise NotImplementedError


def guarded(guards: Sequence[Guard[Any]], call_next: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `call_next` inside of `guards`.

    Args:
        guards: outermost first.
        call_next: what the innermost one guards.
    """
    names: dict[str, Any] = {}
    for number, guard in enumerate(guards):
        for part in PARTS:
            names[f"{part}_{number}"] = getattr(guard, part, None)
    handler: Handler[Any, Any] = _factory(tuple(map(shape_of, guards)))(call_next, **names)
    return handler


PARTS = ("enter", "wait", "leave", "begin", "again", "pause")
"""What the generated text calls of each guard, by these names and its number."""


class Shape(NamedTuple):
    """What the text says of a guard: whether a call may wait there, and whether it repeats."""

    waits: bool = False
    repeats: bool = False


def shape_of(guard: Guard[Any]) -> Shape:
    """Return the shape of a guard."""
    return Shape(type(guard).wait is not Guard.wait, isinstance(guard, Repeater))


def source(shapes: Sequence[Shape]) -> str:
    """Return the text of a function that returns the coroutine function.

    For one guard that may wait it reads::

        def guard(call_next, enter_0, wait_0, leave_0, begin_0, again_0, pause_0):
            async def guarded_call(call):
                held_0 = enter_0(call)
                if held_0 is None:
                    held_0 = await wait_0(call)
                try:
                    result = await call_next(call)
                except BaseException as error:
                    leave_0(call, held_0, None, error)
                    raise
                leave_0(call, held_0, result, None)
                return result
            return guarded_call

    And within the outer ``try`` of one that repeats, where, as in any that may not wait,
    ``leave_0`` is only called ``if held_0 is not None``::

        while True:
            try:
                result = await call_next(call)
            except Exception as error:
                if held_0 is None:
                    held_0 = begin_0(call)
                until = again_0(call, held_0, error)
                if until is None:
                    raise
            else:
                if call.verdict is None or call.verdict.kind is SUCCESS:
                    break
                if held_0 is None:
                    held_0 = begin_0(call)
                until = again_0(call, held_0, None)
                if until is None:
                    break
            await pause_0(call, held_0, until)

    Args:
        shapes: of the guards, outermost first.
    """
    names = [f"{part}_{number}" for number in range(len(shapes)) for part in PARTS]
    return "\n".join(
        [
            f"def guard({', '.join(['call_next', *names])}):",
            "    async def guarded_call(call):",
            *_indented(_nested(shapes, 0), 8),
            "        return result",
            "    return guarded_call",
        ]
    )


def _nested(shapes: Sequence[Shape], number: int) -> list[str]:
    if number == len(shapes):
        return ["result = await call_next(call)"]
    shape, inside = shapes[number], _nested(shapes, number + 1)
    enter = [f"held_{number} = enter_{number}(call)"]
    failed = [f"leave_{number}(call, held_{number}, None, error)"]
    ended = [f"leave_{number}(call, held_{number}, result, None)"]
    if shape.waits:
        enter += [f"if held_{number} is None:", f"    held_{number} = await wait_{number}(call)"]
    else:
        holds = f"if held_{number} is not None:"
        failed, ended = [holds, *_indented(failed)], [holds, *_indented(ended)]
    if shape.repeats:
        inside = _repeated(inside, number)
    return [
        *enter,
        "try:",
        *_indented(inside),
        "except BaseException as error:",
        *_indented(failed),
        "    raise",
        *ended,
    ]


def _repeated(inside: list[str], number: int) -> list[str]:
    # The pause is outside of the handler, as a cancellation in it does not follow from the error.
    begin = [f"if held_{number} is None:", f"    held_{number} = begin_{number}(call)"]
    return [
        "while True:",
        "    try:",
        *_indented(inside, 8),
        "    except Exception as error:",
        *_indented(begin, 8),
        f"        until = again_{number}(call, held_{number}, error)",
        "        if until is None:",
        "            raise",
        "    else:",
        "        if call.verdict is None or call.verdict.kind is SUCCESS:",
        "            break",
        *_indented(begin, 8),
        f"        until = again_{number}(call, held_{number}, None)",
        "        if until is None:",
        "            break",
        f"    await pause_{number}(call, held_{number}, until)",
    ]


def _indented(lines: list[str], by: int = 4) -> list[str]:
    return [" " * by + line for line in lines]


@functools.cache
def _factory(shapes: tuple[Shape, ...]) -> Callable[..., Any]:
    """Return the function that `source` is the text of: made once for all stacks of one shape."""
    kinds = "".join("-wrb"[each.waits + 2 * each.repeats] for each in shapes)
    text, name = source(shapes), f"<resilient_infe: guards {kinds}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name  # for tracebacks
    names: dict[str, Any] = {"SUCCESS": SUCCESS}
    exec(compile(text, name, "exec"), names)  # noqa: S102  # made of numbers alone
    factory: Callable[..., Any] = names["guard"]
    return factory
