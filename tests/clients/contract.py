"""What every client must do with a stack around it; each module of this folder fills it in.

The code that runs is that of the client's page in docs/howto, as it stands.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import Remember

from resilient_infe import (
    Circuit,
    CircuitBreaker,
    Deadline,
    ErrorClassifier,
    Kind,
    Retry,
    Stack,
    call_options,
    presets,
)
from resilient_infe.testing import Books, Faults, InfeModel
from resilient_infe.testing.server import InfeServer

HOWTO = Path(__file__).parents[2] / "docs/howto"

NOTE = "resilient_infe: "


def block_of(page: str) -> str:
    """Return the one Python block of a page."""
    text = (HOWTO / f"{page}.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return block


def quick(**options: Any) -> Stack:
    """Return a stack of three attempts whose backoffs take no time."""
    listeners = options.pop("listeners", ())
    retry = Retry(**({"max_attempts": 3} | options), uniform=lambda: 0.0)
    return Stack(retry, ErrorClassifier(), listeners=listeners)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def notes(error: BaseException) -> list[str]:
    """Return our notes on an error and on its causes."""
    left = [note for link in causes(error) for note in getattr(link, "__notes__", ())]
    return [note for note in left if note.startswith(NOTE)]


@dataclass
class Outcome:
    """What came of some calls: a text or an exception each, and what the server saw."""

    results: list[Any]
    books: Books
    stack: Stack

    @property
    def last(self) -> Any:
        """The last result."""
        return self.results[-1]


@pytest.mark.network
class Contract:
    """The tests of one page.

    Attributes:
        page: its name in docs/howto.
        failed: what a call raises whose last answer was a 500.
        denied: what a call raises whose key is wrong.
        refused: what a call raises that an open circuit stopped.
        late: what a call raises that a deadline cut.
        noted: whether our note is on the error or on one of its causes.
        versioned: whether the base URL that the page is given ends in ``/v1``.
        server, model: the stand-in.
    """

    page: str
    failed: type[Exception]
    denied: type[Exception]
    refused: type[Exception]
    late: type[Exception]
    noted = True
    versioned = True
    server = InfeServer
    model = InfeModel

    def ask(
        self, stack: Stack | None = None, *, calls: int = 1, code: str | None = None, **model: Any
    ) -> Outcome:
        """Run the page's code, with another stack if one is given, against the stand-in."""
        space: dict[str, Any] = {"__name__": "recipe"}
        exec(compile(code or block_of(self.page), self.page, "exec", dont_inherit=True), space)
        if stack is not None:
            space["stack"] = stack
        return self.run(lambda url: space["main"](url, "sk-test"), space["stack"], calls, **model)

    def run(
        self, call: Callable[[str], Awaitable[Any]], stack: Stack, calls: int = 1, **model: Any
    ) -> Outcome:
        """Make calls one after the other, each with the stand-in's URL."""
        infe = self.model(**({"latency": 0.0} | model))
        results: list[Any] = []

        async def main() -> None:
            async with self.server(infe).running() as url:
                where = url if self.versioned else url.removesuffix("/v1")
                for _ in range(calls):
                    try:
                        with call_options(request_id="row-17", partition="rows"):
                            results.append(await call(where))
                    except Exception as error:
                        results.append(error)

        asyncio.run(main())
        return Outcome(results, infe.books, stack)

    def test_the_page_runs_as_it_stands(self):
        """The page's code is answered by one request, and everything is given back."""
        outcome = self.ask()
        assert outcome.last.startswith("word")
        assert outcome.books.sends == 1
        statistics = outcome.stack.statistics()
        assert (statistics.calls, statistics.in_flight) == (1, 0)
        assert statistics.outcomes == {Kind.OK: 1}

    def test_three_attempts_are_three_requests(self):
        """Over a server that always fails, nothing above the stack tries again."""
        outcome = self.ask(quick(), faults=Faults(rates={500: 1.0}))
        assert outcome.books.sends == 3
        assert isinstance(outcome.last, self.failed)
        assert [note.startswith(f"{NOTE}3 attempts") for note in notes(outcome.last)] == (
            [True] if self.noted else []
        )

    def test_a_wrong_key_is_told_at_once(self):
        """What no further attempt can help is the client's own error, after one request."""
        outcome = self.ask(quick(), faults=Faults(script=[401]))
        assert outcome.books.sends == 1
        assert isinstance(outcome.last, self.denied)

    def test_options_reach_the_call(self):
        """The id and the partition of call_options are those of the call inside."""
        seen = Remember()
        self.ask(quick(listeners=[seen]))
        [attempt] = seen.named("attempt.finished")
        assert (attempt.request_id, attempt.partition) == ("row-17", "rows")

    def test_an_open_circuit_is_the_clients_own_error(self):
        """A call that the circuit stops is not sent, is typed, and says why."""
        circuit = CircuitBreaker(Circuit(minimum_calls=1))
        stack = Stack(Retry(1), circuit, ErrorClassifier())
        outcome = self.ask(stack, calls=2, faults=Faults(rates={500: 1.0}))
        assert outcome.books.sends == 1
        assert isinstance(outcome.last, self.refused)
        assert "circuit" in str(outcome.last)
        assert stack.statistics().outcomes == {Kind.SERVER_ERROR: 1, Kind.REFUSED: 1}

    def test_a_deadline_is_the_clients_own_timeout(self):
        """A call that the deadline cuts was sent once, and is typed."""
        outcome = self.ask(Stack(Deadline(0.2), ErrorClassifier()), latency=0.6)
        assert outcome.books.sends == 1
        assert isinstance(outcome.last, self.late)

    def test_a_hint_is_waited_for(self):
        """The second request comes when the server's Retry-After says so, to the instant."""
        seen = Remember()
        # A hint of 1 s, of which a server that is lying tells a tenth.
        told = {"faults": Faults(script=[429]), "retry_after": "lying"}
        outcome = self.ask(quick(listeners=[seen]), **told)
        assert outcome.last.startswith("word")
        [retry] = seen.named("retry.scheduled")
        assert (retry.retry_after, retry.delay) == (0.1, 0.1)
        assert outcome.books.sends == 2
        assert outcome.books.last - outcome.books.first >= 0.099


class StreamingContract(Contract):
    """The tests of one page whose client streams.

    Attributes:
        broken: what reading a stream raises that ends before it is whole.
    """

    broken: type[Exception]

    def stream(self, url: str, stack: Stack) -> AsyncIterator[Any]:
        """Yield the pieces of a streamed answer, asked for as the page does."""
        raise NotImplementedError

    def read(self, **model: Any) -> Outcome:
        """Read a stream to its end, under a preset that keeps slots and tokens."""
        stack = presets.service(tokens_per_minute=6_000_000)

        async def read(url: str) -> int:
            return len([piece async for piece in self.stream(url, stack)])

        return self.run(read, stack, **model)

    def test_a_stream_gives_everything_back(self):
        """A stream that is read to its end leaves no slot and no reservation taken."""
        outcome = self.read()
        assert isinstance(outcome.last, int), repr(outcome.last)
        statistics = outcome.stack.statistics()
        assert (statistics.in_flight, statistics.outcomes) == (0, {Kind.OK: 1})
        assert [each.outstanding for each in statistics.allowances.values()] == [0]

    def test_a_stream_that_breaks_is_told_and_not_sent_again(self):
        """What broke after it had begun is an error, and its slot comes back."""
        outcome = self.read(faults=Faults(breaks={"cut": 1.0}))
        assert isinstance(outcome.last, self.broken), repr(outcome.last)
        assert outcome.books.sends == 1
        statistics = outcome.stack.statistics()
        assert (statistics.in_flight, statistics.outcomes) == (0, {Kind.TRANSIENT: 1})
