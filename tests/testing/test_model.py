"""The stand-in's contract: the same answers in process and over HTTP, and books that are right."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from resilient_infe import InfeTransport, errors
from resilient_infe.testing import Faults, InfeModel, InProcessInfe, ModelRequest, run_virtually
from resilient_infe.testing.limits import make_limit
from resilient_infe.testing.server import InfeServer

ASK = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}


def in_process(model, test):
    """Run a test against the model in process, in virtual time."""
    run_virtually(lambda: test(InProcessInfe(model)))


def over_http(model, test):
    """Run a test against the model over loopback HTTP."""

    async def main():
        async with (
            InfeServer(model).running() as url,
            InfeTransport("sk-test", base_url=url) as transport,
        ):
            await test(transport)

    asyncio.run(main())


both_shells = pytest.mark.parametrize(
    "shell", [in_process, pytest.param(over_http, marks=pytest.mark.network)]
)


@both_shells
def test_answers(shell):
    """A completion has the shape of the API, and the books count it."""
    model = InfeModel(latency=0.0)

    async def test(transport):
        answer = await transport(ASK)
        assert answer["object"] == "chat.completion"
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]

    shell(model, test)
    assert (model.books.sends, model.books.answered, model.books.rejected) == (1, 1, 0)


@both_shells
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 502, 503])
def test_every_error_of_the_table(shell, status):
    """A scripted status comes with its code, type and request id."""
    model = InfeModel(latency=0.0, faults=Faults(script=[status]))

    async def test(transport):
        with pytest.raises(errors.InfeError) as caught:
            await transport(ASK)
        assert caught.value.status == status
        assert caught.value.request_id == "infe-00000001"

    shell(model, test)
    assert model.books.by_status == {status: 1}


@both_shells
@pytest.mark.parametrize("style", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize("told", ["none", "exact", "rounded", "lying"])
def test_limits_and_hints(shell, style, told):
    """Beyond the limit comes 429, with the hint that was switched on."""
    model = InfeModel(requests_per_minute=60, style=style, burst=3, latency=0.0, retry_after=told)
    answers = []

    async def test(transport):
        for _ in range(70):
            try:
                await transport(ASK)
            except errors.RateLimitError as error:
                answers.append(error.retry_after)

    shell(model, test)
    assert answers
    assert all((hint is None) is (told == "none") for hint in answers)
    if told == "rounded":
        assert all(hint == int(hint) for hint in answers)
    assert model.books.rejected == len(answers)


@both_shells
def test_a_models_own_refusals(shell):
    """A wrong key, a wrong model and missing messages are refused like the real one does."""
    model = InfeModel(latency=0.0, api_keys=["sk-other"])

    async def wrong_key(transport):
        with pytest.raises(errors.AuthenticationError):
            await transport(ASK)

    shell(model, wrong_key)
    model = InfeModel(latency=0.0)

    async def wrong_request(transport):
        with pytest.raises(errors.ModelNotFoundError):
            await transport({**ASK, "model": "gpt"})
        with pytest.raises(errors.InvalidRequestError):
            await transport({"model": "infe-pulse"})

    shell(model, wrong_request)


@both_shells
@pytest.mark.parametrize("broken", ["cut", "reset", "garbage", "html"])
def test_broken_replies(shell, broken):
    """A broken reply is an error to the client and no answer in the books."""
    model = InfeModel(latency=0.0, faults=Faults(breaks={broken: 1.0}))

    async def test(transport):
        with pytest.raises(errors.InfeError):
            await transport(ASK)

    shell(model, test)
    assert (model.books.sends, model.books.answered) == (1, 0)


@both_shells
def test_rate_headers(shell):
    """Switched on, the headers tell limit, remaining and reset, and the client reads them."""
    from resilient_infe import ErrorClassifier, Stack

    model = InfeModel(requests_per_minute=60, style="fixed", headers=True, latency=0.0)
    verdicts = []

    async def look(call, call_next):
        result = await call_next(call)
        verdicts.append(call.verdict)
        return result

    async def test(transport):
        await Stack(look, ErrorClassifier()).around(transport)(ASK)

    shell(model, test)
    [limit] = verdicts[0].limits
    assert (limit.dimension, limit.limit, limit.remaining) == ("requests", 60.0, 59.0)
    assert 0 < limit.reset <= 60


def test_outages_and_hangs_are_stretches_of_time():
    """An outage answers 503 in its stretch only; a hang does not answer at all."""
    model = InfeModel(faults=Faults(outages=[(10, 20)], hangs=[(30, 40)]), latency=0.1)
    at = {now: model.handle(ModelRequest(ASK), float(now)) for now in (0, 10, 19, 20, 30, 40)}
    assert [reply.status for reply in at.values()] == [200, 503, 503, 200, 504, 200]
    assert at[30].delay > 1e5


def test_a_limit_of_requests_in_progress():
    """With a concurrency limit, one more at the same time is rejected, and later is not."""
    model = InfeModel(concurrency=2, latency=1.0)
    statuses = [model.handle(ModelRequest(ASK), now).status for now in (0.0, 0.1, 0.2, 1.05)]
    assert statuses == [200, 200, 429, 200]
    assert model.books.peak_in_flight == 3


def test_rejected_requests_can_be_charged():
    """Where rejections use up the limit too, hammering keeps it empty."""
    for charged, answered in ((False, 11), (True, 1)):
        model = InfeModel(
            requests_per_minute=60, style="sliding", latency=0.0, charge_rejected=charged
        )
        model._limits["requests"].limit = 1
        statuses = [model.handle(ModelRequest(ASK), 6.0 * n).status for n in range(101)]
        assert statuses.count(200) == answered


def test_the_same_seed_gives_the_same_replies():
    """Two models with one seed answer alike, two seeds do not."""

    def replies(seed):
        model = InfeModel(faults=Faults(rates={500: 0.3}), seed=seed)
        return [model.handle(ModelRequest(ASK), float(n)).status for n in range(50)]

    assert replies(1) == replies(1) != replies(2)


def test_latency_grows_with_the_output():
    """A longer answer takes longer, and max_tokens bounds it."""
    model = InfeModel(latency=0.1, seconds_per_token=0.01, output_tokens=1_000)
    long = model.handle(ModelRequest(ASK), 0.0)
    short = model.handle(ModelRequest({**ASK, "max_tokens": 5}), 0.0)
    assert short.delay == pytest.approx(0.15)
    assert long.delay > short.delay


def test_the_books_count_peaks():
    """Peak per second and admitted per minute are those of the busiest stretch."""
    model = InfeModel(latency=0.0)
    for now in [0.0, 0.1, 0.2, 5.0, 70.0]:
        model.handle(ModelRequest(ASK, client_id="same"), now)
    books = model.books.summary()
    assert (books["peak_per_second"], books["peak_per_minute"]) == (3, 4)
    assert (books["sends"], books["answered_twice"], books["seconds"]) == (5, 1, 70.0)


@pytest.mark.parametrize("style", ["bucket", "fixed", "sliding"])
def test_limits_keep_their_word(style):
    """What a limit says to wait is enough, a moment less is not, and remaining tells the truth."""
    limit = make_limit(style, 60.0, 60.0, 3.0)
    now = 100.0
    while limit.fits(1.0, now):
        assert limit.remaining(now) >= 1 - 1e-6
        limit.take(1.0, now)
    assert limit.remaining(now) < 1
    wait = limit.wait(1.0, now)
    assert 0 < wait <= limit.reset(now) + 1e-9
    assert not limit.fits(1.0, now + wait - 0.01)
    assert limit.fits(1.0, now + wait)


@pytest.mark.network
def test_the_books_over_http():
    """GET /books gives the same books."""
    import aiohttp

    model = InfeModel(latency=0.0)

    async def main():
        async with InfeServer(model).running() as url:
            async with InfeTransport("sk-test", base_url=url) as transport:
                with contextlib.suppress(errors.InfeError):
                    await transport(ASK)
            async with aiohttp.ClientSession() as session:
                response = await session.get(url.removesuffix("/v1") + "/books")
                return await response.json()

    assert asyncio.run(main()) == model.books.summary()


def test_more_than_the_capacity_is_slower():
    """Each request takes longer in proportion to those in progress, up to its own arrival."""
    model = InfeModel(latency=1.0, capacity=2)
    request = ModelRequest(ASK)
    assert [model.handle(request, 0.0).delay for _ in range(4)] == [1.0, 1.0, 1.5, 2.0]
    assert model.handle(request, 3.0).delay == 1.0
