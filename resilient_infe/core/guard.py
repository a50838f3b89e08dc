"""The base class of most layers, and the one coroutine that runs a row of such layers.

Most layers do three things around the code that they call: they admit the call, at once or later;
they hold something for it, such as a slot; they release it when the call ends. Such a layer is a
`Guard`. It implements `enter`, `wait` and `leave`, and does not itself call the next layer. So
adjacent guards share one coroutine instead of one each.

The coroutine is generated source code, as `dataclasses` generates ``__init__``: `n` guards need `n`
nested ``try`` statements, and Python can nest them only in source. The code runs these steps, in
this order (`source` shows it in full):

1. Guards enter, outermost first. If `enter` of a guard that may wait returns None, its `wait` runs.
2. The next handler runs.
3. Guards leave, innermost first, with the result or the exception. A guard that raised in `enter`
   or `wait` holds nothing, so its own `leave` does not run; those outside it do leave.
4. Before it leaves, a `Repeater` may run everything inside it again, after a pause.

ADR 0010 lists the other forms that were tried, with measurements.
"""

from __future__ import annotations

import functools
import linecache
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import Refused
from .call import Call, Handler
from .given import Given
from .verdict import SUCCESS

H = TypeVar("H")

MAX_GUARDS = 8
"""The number of guards in one coroutine.

Both presets have eight."""

MAX_BLOCKS = 16
"""The number of blocks in one coroutine. CPython nests at most 20 blocks. A guard needs one and a
repeater three, so eight guards with one repeater need ten."""


class Guard(Given, Generic[H]):
    """A layer that admits a call, holds something for it, and releases that when the call ends.

    In a `Stack`, adjacent guards share a coroutine. Like any other layer, a guard can also be
    awaited alone, ``await guard(call, call_next)``, with the same effect.
    """

    __slots__ = ()

    def enter(self, call: Call[Any]) -> H | None:
        """Admit the call at once, and return what it holds.

        There are two meanings of None:

        1. The guard has a `wait`: the call cannot be admitted at once, and `wait` runs next; a call
           that is `spare` is refused.
        2. It has none: the call is admitted and holds nothing, so `leave` does not run for it.

        Raises:
            Refused: the call is not admitted.
        """
        raise NotImplementedError

    async def wait(self, call: Call[Any]) -> H:
        """Wait until the call is admitted; return what it holds. Runs if `enter` returned None."""
        raise NotImplementedError

    def leave(self, call: Call[Any], held: H, result: Any, error: BaseException | None, /) -> None:
        """Release what the call held. Runs exactly once for each call that holds something.

        Args:
            call: the call.
            held: the value that `enter` or `wait` returned.
            result: the result of the code inside; None if it raised.
            error: the exception of the code inside; None if it returned. It is raised again after
                `leave`, unless `leave` raises another one.
        """
        raise NotImplementedError

    async def __call__(self, call: Call[Any], call_next: Handler[Any, Any]) -> Any:
        """Run this guard alone around `call_next`."""
        return await guarded((self,), call_next)(call)


class Repeater(Guard[H]):
    """A guard that may run the code inside it several times.

    Most calls succeed at the first attempt. So `enter` may return None, and `begin` makes the value
    to hold only when an attempt fails.
    """

    __slots__ = ()

    def begin(self, call: Call[Any], /) -> H:
        """Return what the call holds from its first failure on. Runs if `enter` returned None."""
        raise NotImplementedError

    def again(self, call: Call[Any], held: H, error: Exception | None, /) -> float | None:
        """Return the loop time at which to run again; None to keep the result or the exception.

        Runs if the code inside raised, or if it returned and the verdict is not a success.

        Args:
            call: the call.
            held: the value that `enter` or `begin` returned.
            error: the exception of the code inside; None if it returned.
        """
        raise NotImplementedError

    async def pause(self, call: Call[Any], held: H, until: float, /) -> None:
        """Sleep until the loop time that `again` returned, and reset the call for the next run."""
        raise NotImplementedError


def guarded(guards: Sequence[Guard[Any]], call_next: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `call_next` inside `guards`.

    Args:
        guards: the guards, outermost first; no more than `fit`.
        call_next: the handler that the innermost guard encloses.
    """
    names: dict[str, Any] = {}
    for number, guard in enumerate(guards):
        for part in PARTS:
            names[f"{part}_{number}"] = getattr(guard, part, None)
    handler: Handler[Any, Any] = _factory(tuple(map(shape_of, guards)))(call_next, **names)
    return handler


def fit(guards: Sequence[Guard[Any]]) -> int:
    """Return how many of the first `guards` fit into one coroutine."""
    blocks = 0
    for number, guard in enumerate(guards[:MAX_GUARDS]):
        blocks += 3 if isinstance(guard, Repeater) else 1
        if blocks > MAX_BLOCKS:
            return number
    return min(len(guards), MAX_GUARDS)


PARTS = ("enter", "wait", "leave", "begin", "again", "pause")
"""The methods that the generated code calls, each by its name and the guard's number."""


class Shape(NamedTuple):
    """The properties of a guard that its generated code depends on.

    Attributes:
        waits: whether the guard has a `wait`.
        repeats: whether the guard is a `Repeater`.
    """

    waits: bool = False
    repeats: bool = False


def shape_of(guard: Guard[Any]) -> Shape:
    """Return the shape of a guard."""
    return Shape(type(guard).wait is not Guard.wait, isinstance(guard, Repeater))


def source(shapes: Sequence[Shape]) -> str:
    """Return the source of a factory: a function that returns the coroutine function.

    For one guard that may wait, the source is::

        def guard(call_next, enter_0, wait_0, leave_0, begin_0, again_0, pause_0):
            async def guarded_call(call):
                held_0 = enter_0(call)
                if held_0 is None:
                    if call.state.spare:
                        raise NO_ROOM(call)
                    held_0 = await wait_0(call)
                try:
                    result = await call_next(call)
                except BaseException as error:
                    leave_0(call, held_0, None, error)
                    raise
                leave_0(call, held_0, result, None)
                return result
            return guarded_call

    And the body of the outer ``try`` of a repeater is as follows. Around it, as for each guard
    that may not wait, ``leave_0`` runs only ``if held_0 is not None``::

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
        shapes: the shape of each guard, outermost first.
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
        enter += [
            f"if held_{number} is None:",
            "    if call.state.spare:",
            "        raise NO_ROOM(call)",
            f"    held_{number} = await wait_{number}(call)",
        ]
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
    # The pause is outside the except block: an exception raised inside one, such as a cancellation
    # of the sleep, would get the failed attempt as its __context__.
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


def _no_room(call: Call[Any]) -> Refused:
    """Refuse an attempt that must not wait, where it would have to."""
    return call.refuse(Refused("there is no room for a second attempt now"))


def _indented(lines: list[str], by: int = 4) -> list[str]:
    return [" " * by + line for line in lines]


@functools.cache
def _factory(shapes: tuple[Shape, ...]) -> Callable[..., Any]:
    """Compile `source` and return the factory; stacks of the same shapes share it."""
    kinds = "".join("-wrb"[each.waits + 2 * each.repeats] for each in shapes)
    text, name = source(shapes), f"<resilient_infe: guards {kinds}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name  # for tracebacks
    names: dict[str, Any] = {"SUCCESS": SUCCESS, "NO_ROOM": _no_room}
    exec(compile(text, name, "exec"), names)  # noqa: S102  # made of numbers alone
    factory: Callable[..., Any] = names["guard"]
    return factory
