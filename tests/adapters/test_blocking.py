"""Synchronous clients and functions through a stack: threads share its limits, as they block."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx2
import openai
import pytest
from loopback import ASK, COMPLETION, KEY
from streamers import WHOLE

from resilient_infe import (
    AttemptTimeout,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Fallback,
    Hedge,
    Kind,
    RateLimiter,
    Retry,
    Slots,
    Stack,
    Target,
    call_options,
    errors,
    presets,
    wrap,
)
from resilient_infe.aio import bridge

URL = "http://t/v1/chat/completions"
DOWN = (503, {"error": {"message": "down", "type": "t", "code": "c"}})
GOOD = (200, COMPLETION)
QUICK = ExponentialBackoff(0.001, 1.0, 0.001, jitter="none")


class Server:
    """Answers in process with a script, whose last entry repeats; remembers what it was asked."""

    def __init__(self, *script):
        """Answer with these: a reply, an exception, or a function of the request."""
        self.script, self.asked = list(script), []

    def __call__(self, request):
        """Answer one request."""
        self.asked.append(request)
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(found, BaseException):
            raise found
        if callable(found):
            return found(request)
        return httpx2.Response(found[0], json=found[1])

    def client(self, **options):
        """Return a synchronous SDK client of this server."""
        http = httpx2.Client(transport=httpx2.MockTransport(self))
        options = {"api_key": KEY, "base_url": "http://t/v1", "http_client": http} | options
        return openai.OpenAI(**options)


def steady(*layers, attempts=3):
    """Return a stack that retries at once."""
    return Stack(Retry(attempts, QUICK), *layers, ErrorClassifier())


def settled(stack):
    """Return the statistics after what was posted to the loop."""
    done = threading.Event()
    bridge().post(done.set)
    assert done.wait(5)
    return stack.statistics()


def settled_when(condition):
    """Wait for what another thread does."""
    while not condition():
        pass


def streamed(request):
    """Answer with a stream."""
    body = iter(WHOLE)
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)


def test_a_synchronous_sdk_is_made_resilient():
    """The type stays, each attempt is numbered, and the SDK's own retries are off."""
    server, stack = Server(DOWN, DOWN, GOOD), steady()
    client = wrap(server.client(), stack)
    assert type(client) is openai.OpenAI
    assert client.max_retries == 0
    assert client.chat.completions.create(**ASK).choices
    counts = [request.headers["x-stainless-retry-count"] for request in server.asked]
    assert counts == ["0", "1", "2"]
    assert settled(stack).outcomes == {Kind.OK: 1}


def test_the_sdks_own_error_is_raised_with_a_note():
    """After the last attempt the SDK's typed error comes, and says what was tried."""
    client = wrap(Server(DOWN).client(), steady())
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**ASK)
    assert "3 attempts" in caught.value.__notes__[0]


def test_a_refusal_is_the_sdks_own_error():
    """A stack that refuses gives an error of the SDK, and sends nothing."""
    server = Server(GOOD)
    client = wrap(
        server.client(), Stack(Deadline(1.0), RateLimiter(requests_per_minute=1), ErrorClassifier())
    )
    client.chat.completions.create(**ASK)
    with pytest.raises(openai.InternalServerError, match="deadline"):
        client.chat.completions.create(**ASK)
    assert len(server.asked) == 1


def test_a_derived_client_goes_through_the_stack():
    """`with_options` keeps the stack, and 0 retries send once."""
    server, stack = Server(DOWN), steady()
    client = wrap(server.client(), stack).with_options(max_retries=0)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**ASK)
    assert len(server.asked) == 1
    assert settled(stack).attempts == 1


@pytest.mark.parametrize("end", ["read", "break", "close", "drop"])
def test_a_stream_holds_its_slot_to_its_end(end):
    """The slot of a stream comes back when it was read, left, closed or dropped."""
    stack = steady(ConcurrencyLimiter(1))
    client = wrap(Server(streamed).client(), stack)
    stream = client.chat.completions.create(**ASK, stream=True)
    assert settled(stack).in_flight == 1
    if end == "read":
        assert len(list(stream)) > 3
    elif end == "break":
        for _ in stream:
            break
    elif end == "close":
        stream.close()
    del stream
    gc.collect()
    assert settled(stack).in_flight == 0
    assert client.chat.completions.create(**ASK, stream=True)  # a slot is free


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_synchronous_http_client_is_made_resilient(library):
    """Client of httpx and httpx2: hooks and auth run, and a token is renewed for a retry."""
    tokens, seen, hooked = iter("abc"), [], []

    class Token(library.Auth):
        def auth_flow(self, request):
            request.headers["authorization"] = f"Bearer {next(tokens)}"
            yield request

    def serve(request):
        seen.append(request.headers["authorization"])
        return library.Response(*(503,) if len(seen) == 1 else (200,), json=COMPLETION)

    client = wrap(
        library.Client(
            transport=library.MockTransport(serve),
            auth=Token(),
            event_hooks={"request": [hooked.append], "response": []},
        ),
        steady(),
    )
    with client:
        assert type(client) is library.Client
        assert client.post(URL, json=ASK).json() == COMPLETION
        with client.stream("POST", URL, json=ASK) as response:
            assert response.read()
    assert seen == ["Bearer a", "Bearer b", "Bearer c"]
    assert len(hooked) == 2
    assert client.is_closed


def test_a_function_keeps_its_signature_and_its_errors():
    """A `def` is tried again, and its last exception is its own."""
    failures = [ConnectionError("one"), ValueError("two")]

    def ask(prompt: str, *, model: str = "m") -> str:
        """Ask."""
        raise failures.pop(0)

    asked = wrap(ask, steady(), classify=lambda _, error: Kind.TRANSIENT if failures else None)
    assert asked.__doc__ == "Ask."
    with pytest.raises(ValueError, match="two"):
        asked("hello")


def test_threads_and_coroutines_share_one_limit():
    """Eight threads and two event loops at once never have more than two calls in flight."""
    lock, running, most = threading.Lock(), [0], [0]
    pause = threading.Event()

    def work(_=None):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        pause.wait(0.002)
        with lock:
            running[0] -= 1

    async def work_there():
        await asyncio.get_running_loop().run_in_executor(None, work)

    stack = Stack(ConcurrencyLimiter(Slots(2)), ErrorClassifier())
    blocking, awaited = wrap(work, stack), wrap(work_there, stack)

    async def several():
        await asyncio.gather(*(awaited() for _ in range(8)))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: asyncio.run(several()) if n < 2 else blocking(), range(20)))
    assert most[0] == 2
    assert settled(stack).outcomes == {Kind.OK: 34}


def test_a_stack_that_a_loop_has_used_moves():
    """A loop made calls before threads joined: both go on, and any thread changes the limit."""
    stack = presets.batch(requests_per_minute=600)

    async def ask():
        return 1

    async def main():
        assert await wrap(ask, stack)() == 1
        blocking = wrap(lambda: 2, stack)
        assert await asyncio.get_running_loop().run_in_executor(None, blocking) == 2
        assert await wrap(ask, stack)() == 1

    asyncio.run(main())
    [changed] = stack.configure(requests_per_minute=1200)
    assert changed.new == 1200
    assert stack.statistics().outcomes == {Kind.OK: 3}


def test_a_cancelled_coroutine_gives_everything_back():
    """Cancelled in the queue and in an attempt on another loop: both slots come back."""
    stack = Stack(ConcurrencyLimiter(1), ErrorClassifier()).across_loops()
    began = asyncio.Event()

    async def ask():
        began.set()
        await asyncio.Event().wait()

    async def main():
        asked = wrap(ask, stack)
        first = asyncio.create_task(asked())
        await began.wait()
        second = asyncio.create_task(asked())
        await asyncio.to_thread(settled_when, lambda: stack.statistics().waiting)
        second.cancel()
        first.cancel()
        ends = await asyncio.gather(first, second, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}

    asyncio.run(main())
    settled_when(lambda: not stack.statistics().in_flight)
    assert stack.statistics().outcomes == {Kind.CANCELLED: 2}


def test_the_transport_of_a_fallback_runs_where_the_call_came_from():
    """Its connections belong to the caller's loop, as those of the stack's own transport do."""
    loops = []

    async def down():
        raise ConnectionResetError

    async def spare(_):
        loops.append(asyncio.get_running_loop())
        return 2

    stack = Stack(Fallback(Target(transport=spare), on={Kind.TRANSIENT}), ErrorClassifier())
    stack.across_loops()

    async def main():
        assert await wrap(down, stack)() == 2
        assert loops == [asyncio.get_running_loop()]

    asyncio.run(main())


def test_a_call_from_another_loop_gets_no_second_attempt():
    """Its home makes one attempt at a time, so a second one would only wait for the first."""
    asked = []

    async def slow():
        asked.append(asyncio.get_running_loop())
        for _ in range(100):  # longer than a millisecond
            await asyncio.to_thread(int)
        return 1

    stack = Stack(Hedge(after=0.001), ErrorClassifier()).across_loops()

    async def main():
        assert await wrap(slow, stack)() == 1
        assert asked == [asyncio.get_running_loop()]

    asyncio.run(main())


def test_context_variables_are_as_without_a_stack():
    """The function runs in its caller's context: it sees what was set, and sets for the caller."""
    variable = contextvars.ContextVar("variable", default=0)

    def count():
        variable.set(variable.get() + 1)

    counted = wrap(count, steady())
    variable.set(5)
    counted()
    assert variable.get() == 6


def test_call_options_apply():
    """The partition of a block reaches the layers."""
    seen = []

    async def layer(call, call_next):
        seen.append((call.partition, call.tags))
        return await call_next(call)

    stack = Stack(layer, ErrorClassifier())
    with call_options(partition="p", tags={"a": 1}):
        wrap(lambda: 1, stack)()
    assert seen == [("p", {"a": 1})]


def test_an_interrupt_gives_everything_back():
    """A KeyboardInterrupt in an attempt is raised as it is, and counts as dropped."""
    stack = steady(ConcurrencyLimiter(1))

    def ask():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wrap(ask, stack)()
    found = settled(stack)
    assert found.outcomes == {Kind.CANCELLED: 1}
    assert wrap(lambda: 1, stack)() == 1


def test_a_timeout_bounds_the_clients_own():
    """An attempt's timeout is given to the transport, and what it raises then is our timeout."""
    given = []

    def serve(request):
        given.append(request.extensions["timeout"]["read"])
        threading.Event().wait(given[-1])
        raise httpx.ReadTimeout("late", request=request)

    stack = Stack(ErrorClassifier(), AttemptTimeout(0.05))
    client = wrap(httpx.Client(transport=httpx.MockTransport(serve), timeout=None), stack)
    with pytest.raises(errors.AttemptTimedOut):
        client.post(URL, json=ASK)
    assert 0.05 < given[0] < 0.2


def test_a_blocking_call_in_a_layer_is_told():
    """A layer that blocks its own loop would wait for itself."""
    inner = wrap(lambda: 1, Stack(ErrorClassifier()))

    async def layer(call, call_next):
        return inner()

    with pytest.raises(errors.WrongLoopError, match="would wait for itself"):
        wrap(lambda: 1, Stack(layer, ErrorClassifier()))()


def test_a_wrapped_function_inside_another():
    """A nested stack works, and is warned of where both retry."""
    inner = wrap(lambda: 1, steady())
    tries = []

    def outer():
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return inner()

    stack = steady()
    with pytest.warns(errors.NestedStackWarning):
        assert wrap(outer, stack, classify=lambda _, e: e and Kind.TRANSIENT)() == 1


EXIT = """
import threading
from resilient_infe import presets, wrap
ask = wrap(lambda: 1, presets.service())
assert ask() == 1
ask = wrap(lambda: 1, presets.service())
assert ask() == 1
assert sum(each.name == "resilient-infe" for each in threading.enumerate()) == 1
"""

FORK = (
    EXIT
    + """
import os
child = os.fork()
if not child:
    assert ask() == 1
    assert wrap(lambda: 1, presets.service())() == 1
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ask() == 1
"""
)

#: What Python says from 3.12 on of a process with threads that is forked, whatever they do.
FORKED = "ignore:This process:DeprecationWarning"


@pytest.mark.parametrize("code", [EXIT, FORK] if hasattr(os, "fork") else [EXIT])
def test_the_interpreter_ends(code):
    """A process ends at once, without a word; a forked one works too."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-W", FORKED, "-c", code],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_thread_ends_when_no_call_is_under_way():
    """The last call's thread does not stay."""
    wrap(lambda: 1, Stack(ErrorClassifier()))()
    for thread in threading.enumerate():
        if thread.name == "resilient-infe":
            thread.join(5)
            assert not thread.is_alive()
    assert wrap(lambda: 2, Stack(ErrorClassifier()))() == 2
