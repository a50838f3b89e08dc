"""What holds for every client alike, over loopback HTTP."""

from __future__ import annotations

import openai
import pytest
from askers import SDKS, every_client, every_http_client, sdk_on_transport
from fakes import Remember
from loopback import (
    ANSWER,
    ERROR,
    FAILURE,
    KEY,
    against,
    at_rest,
    hang,
    in_turn,
    lose,
    quick,
    response,
)

from resilient_infe import (
    AttemptTimeout,
    Circuit,
    CircuitBreaker,
    Deadline,
    ErrorClassifier,
    Kind,
    Retry,
    Stack,
    call_options,
    errors,
    presets,
)

pytestmark = pytest.mark.network


async def outcome(ask, **more):
    """Return what a client answers or raises."""
    try:
        return await ask(**more)
    except Exception as error:
        return error


@every_client
@pytest.mark.parametrize("answer", [ERROR, lose], ids=["500", "lost"])
def test_three_tries_are_three_requests(asker, answer):
    """With three tries of ours exactly three requests arrive, on three connections at most."""
    stack = quick()

    async def test(url):
        async with asker(url, stack) as ask:
            await outcome(ask)

    server = against(answer, test)
    assert len(server.asked) == stack.statistics().attempts == 3
    assert server.connections == (3 if answer is lose else 1)
    assert stack.statistics().in_flight == 0


@every_client
def test_bodies_are_sent_whole_each_time(asker):
    """A retry sends the very bytes that the first attempt sent."""

    async def test(url):
        async with asker(url, quick()) as ask:
            await ask()

    server = against(in_turn(response(502, FAILURE), lose, ANSWER), test)
    [first, *others] = [asked.body for asked in server.asked]
    assert others == [first, first]
    assert b"infe-pulse" in first


NOW, THEN = "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:07 GMT"
HINTS = [
    ({"retry_after": "7"}, 7.0),
    ({"retry_after": "0.5"}, 0.5),
    ({"Retry_AFTER": "7"}, 7.0),
    ({"retry_after": "  7 \t"}, 7.0),
    ({"retry_after": "0000000007"}, 7.0),
    ({"retry_after": "0"}, None),
    ({"retry_after": "0.000000"}, None),
    ({"retry_after": ""}, None),
    ({"retry_after": "-1"}, None),
    ({"retry_after": "+7"}, None),
    ({"retry_after": "nan"}, None),
    ({"retry_after": "inf"}, None),
    ({"retry_after": "1e3"}, None),
    ({"retry_after": "7s"}, None),
    ({"retry_after": "soon"}, None),
    ({"retry_after": "\u00b2"}, None),
    ({"retry_after": "99999999999"}, 9_999_999_999.0),
    ({"retry_after": "33.333333333333336"}, 33.333333333333336),
    ({"retry_after": "2026-10-21T07:28:07Z", "date": NOW}, None),
    ({"retry_after": "0" * 129}, None),
    ({"retry_after": THEN, "date": NOW}, 7.0),
    ({"retry_after": "Wednesday, 21-Oct-26 07:28:07 GMT", "date": NOW}, 7.0),
    ({"retry_after": "Wed Oct 21 07:28:07 2026", "date": NOW}, 7.0),
    ({"retry_after": NOW, "date": THEN}, None),
    ({"retry_after": "Wed, 21 Oct 0000 07:28:07 GMT", "date": NOW}, None),
    ({"retry_after_ms": "1500"}, 1.5),
    ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5),
    ({"retry_after_ms": "much", "retry_after": "7"}, 7.0),
    ({"retry_after_ms": "0", "retry_after": "7"}, 7.0),
    ({"retry_after": "3", "Retry_After": "9"}, None),
    ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}, 360.0),
    ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "12ms"}, 0.012),
    ({"x_ratelimit_remaining_tokens": "-1", "x_ratelimit_reset_tokens": "0"}, None),
]


@every_client
def test_every_form_of_retry_after_is_read_alike(asker):
    """However a hint is written, each client's stack reads the same wait from it."""
    seen = Remember()
    stack = Stack(Retry(1), ErrorClassifier(), listeners=[seen])

    async def test(url):
        async with asker(url, stack) as ask:
            for _ in HINTS:
                await outcome(ask)

    against(in_turn(*(response(429, FAILURE, **hint) for hint, _ in HINTS)), test)
    read = [attempt.retry_after for attempt in seen.named("attempt.finished")]
    assert [(hint, each) for (hint, _), each in zip(HINTS, read, strict=True)] == HINTS


@every_client
def test_a_far_date_is_a_long_hint_and_no_hang(asker):
    """A date in year 9999 ends the call at once, since it is over the longest hint."""
    far = response(429, FAILURE, retry_after="Fri, 31 Dec 9999 23:59:59 GMT")

    async def test(url):
        async with asker(url, presets.service()) as ask:
            await outcome(ask)

    assert len(against(far, test).asked) == 1


@every_client
def test_should_retry_false_is_obeyed(asker):
    """A server that says so is not asked again, whatever the status."""

    async def test(url):
        async with asker(url, quick()) as ask:
            await outcome(ask)

    assert len(against(response(500, FAILURE, x_should_retry="false"), test).asked) == 1


@every_client
def test_options_reach_the_call(asker):
    """What `call_options` says arrives through every client."""
    seen = Remember()
    stack = presets.service(listeners=[seen])
    options = {"request_id": "row-17", "partition": "p", "tags": {"team": "evals"}}

    async def test(url):
        async with asker(url, stack) as ask:
            with call_options(**options):
                await ask()

    against(ANSWER, test)
    [finished] = seen.named("call.finished")
    assert {name: getattr(finished, name) for name in options} == options


@every_client
def test_a_deadline_of_the_calls_own(asker):
    """`call_options(deadline=...)` comes before the stack's."""
    stack = presets.service(deadline=60.0)

    async def test(url):
        async with asker(url, stack) as ask:
            with call_options(deadline=0.05):
                assert isinstance(await outcome(ask), Exception)

    against(hang, test)
    assert stack.statistics().outcomes == {Kind.REFUSED: 1}
    assert at_rest(stack)


@every_client
def test_a_partition_is_the_model(asker):
    """Limits, slots and circuits are per model, whatever the key and the server are."""
    seen = Remember()
    stack = presets.service(listeners=[seen])

    async def test(url):
        async with asker(url, stack) as ask:
            await ask()
            await ask(model="infe-titan")

    against(ANSWER, test)
    found = [event.partition for event in seen.named("call.finished")]
    assert found == ["infe-pulse", "infe-titan"]
    assert set(stack.statistics().slots) == set(found)


@every_http_client
def test_an_open_circuit_is_told_as_the_client_tells(asker):
    """An SDK's caller gets the SDK's own error, all others get ours; nobody tries it again."""
    breaker = CircuitBreaker(Circuit(consecutive_failures=1))

    async def test(url):
        async with asker(url, Stack(Retry(1), breaker, ErrorClassifier())) as ask:
            await outcome(ask)
            error = await outcome(ask)
            wanted = openai.InternalServerError if asker in SDKS else errors.CircuitOpen
            assert type(error) is wanted
            assert "try again in" in str(error)

    assert len(against(ERROR, test).asked) == 1


@every_http_client
def test_a_deadline_is_told_as_the_client_tells(asker):
    """A deadline is an SDK's own timeout, and `DeadlineExceeded` for all others, after one try."""
    stack = Stack(Deadline(0.05), Retry(), ErrorClassifier())

    async def test(url):
        async with asker(url, stack) as ask:
            error = await outcome(ask)
            wanted = openai.APITimeoutError if asker in SDKS else errors.DeadlineExceeded
            assert type(error) is wanted

    against(hang, test)
    assert stack.statistics().attempts == 1
    assert stack.statistics().outcomes == {Kind.REFUSED: 1}


@every_http_client
def test_an_attempts_timeout_is_told_as_the_client_tells(asker):
    """So is the last attempt's timeout, after all the tries."""
    stack = Stack(Retry(2, uniform=lambda: 0.0), ErrorClassifier(), AttemptTimeout(0.05))

    async def test(url):
        async with asker(url, stack) as ask:
            error = await outcome(ask)
            wanted = openai.APITimeoutError if asker in SDKS else errors.AttemptTimedOut
            assert type(error) is wanted
            assert asker is sdk_on_transport or "2 attempts" in error.__notes__[0]

    against(hang, test)
    assert stack.statistics().attempts == 2
    assert stack.statistics().outcomes == {Kind.TIMEOUT: 1}


@every_http_client
def test_the_key_is_shown_to_nobody(asker, caplog):
    """The key is in no note, event, log or repr of ours, even when the server quotes it."""
    seen = Remember()
    stack = presets.service(listeners=[seen])
    caplog.set_level("DEBUG", logger="resilient_infe")
    shown = []

    async def test(url):
        async with asker(url, stack) as ask:
            failed = await outcome(ask)
            shown.extend(getattr(failed, "__notes__", ()))
            shown.append(getattr(failed, "extensions", {}).get("resilient_infe"))

    quoted = {"error": {"message": f"bad key {KEY}", "code": KEY + "!", "type": f"Bearer {KEY}"}}
    assert len(against(response(401, quoted), test).asked) == 1
    records = [record.getMessage() for record in caplog.records if "resilient" in record.name]
    told = [repr(shown), repr(seen.events), repr(stack.statistics()), repr(records), str(stack)]
    assert KEY not in " ".join(told)
    assert "auth" in " ".join(told)
