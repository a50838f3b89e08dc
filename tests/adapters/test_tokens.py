"""What a request costs, through every client: estimated from its body, settled by its usage."""

from __future__ import annotations

import httpx
import pytest
from askers import azure, every_client
from fakes import Remember
from loopback import ANSWER, ASK, COMPLETION, against, at_rest, in_turn, over_http, quick, response

from resilient_infe import Kind, Stack, call_options, presets, wrap
from resilient_infe.rate.estimate import estimate_tokens

pytestmark = pytest.mark.network


class Noted:
    """A layer that notes the tokens and the body of each call."""

    def __init__(self):
        """Start with none."""
        self.tokens, self.bodies = [], []

    async def __call__(self, call, call_next):
        """Note them, and call on."""
        self.tokens.append(call.tokens)
        self.bodies.append(call.body)
        return await call_next(call)


def counting(noted, **options):
    """Return a stack that limits tokens, with a layer that notes what they were."""
    service = presets.service(tokens_per_minute=6_000_000, **options)
    [*outer, circuit, classifier, timeout] = service.layers
    return Stack(*outer, noted, circuit, classifier, timeout, strict=False)


@every_client
def test_a_body_is_what_tokens_are_estimated_from(asker):
    """The estimate is made of the request's body, or of a function's arguments by name."""
    noted = Noted()
    stack = counting(noted)

    async def test(url):
        async with asker(url, stack) as ask:
            await ask()
            await ask(max_tokens=1_000)

    over_http(test) if asker is not azure else against(ANSWER, test)
    assert noted.tokens == [estimate_tokens(ASK), estimate_tokens(ASK | {"max_tokens": 1_000})]
    assert at_rest(stack)


@every_client
def test_a_counter_of_ones_own_is_given_the_body(asker):
    """`estimate=` gets the decoded body, or the arguments of a function by name."""
    noted, given = Noted(), []

    def estimate(body):
        given.append(body)
        return 17

    stack = counting(noted, estimate=estimate)

    async def test(url):
        async with asker(url, stack) as ask:
            await ask()
            with call_options(tokens=3):
                await ask()

    against(ANSWER, test)
    [body] = given
    body = body.get("body", body)
    assert (body["model"], body["messages"]) == (ASK["model"], ASK["messages"])
    assert noted.tokens == [17.0, 3]


@every_client
def test_a_counter_that_fails_is_told_of_once(asker, caplog):
    """A counter that raises or gives no number loses no call: the usual estimate is taken."""
    noted = Noted()
    answers = [ZeroDivisionError, float("nan"), -1, "many"]

    def estimate(body):
        answer = answers.pop()
        if isinstance(answer, type):
            raise answer
        return answer

    async def test(url):
        async with asker(url, counting(noted, estimate=estimate)) as ask:
            for _ in range(4):
                await ask()

    against(ANSWER, test)
    assert noted.tokens == [estimate_tokens(ASK)] * 4
    assert caplog.text.count("logged once") == 1


USAGES = [
    {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    {"input_tokens": 3, "output_tokens": 4},
]


@every_client
@pytest.mark.parametrize("usage", USAGES, ids=["chat", "messages"])
def test_usage_settles_the_reservation(asker, usage):
    """What the response says it cost is what the limit is charged."""
    seen = Remember()
    stack = presets.service(tokens_per_minute=60_000, listeners=[seen])

    async def test(url):
        async with asker(url, stack) as ask:
            with call_options(tokens=900):
                await ask()
            [allowance] = stack.statistics().allowances.values()
            assert allowance.outstanding == 0
            assert allowance.tokens_left > 900

    against(response(200, COMPLETION | {"usage": usage}), test)
    [finished] = seen.named("call.finished")
    assert (finished.kind, finished.usage.total_tokens) == (Kind.OK, 7)


@pytest.mark.network
def test_usage_settles_where_the_model_is_in_the_path():
    """A body need not name a model for its answer's usage to count."""
    stack = presets.service(tokens_per_minute=60_000)
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}

    async def test(url):
        async with httpx.AsyncClient() as client:
            with call_options(tokens=900):
                path = "openai/deployments/mine/chat/completions"
                await wrap(client, stack).post(f"{url}/{path}", json={"messages": []})
        [allowance] = stack.statistics().allowances.values()
        assert allowance.tokens_left > 900

    against(response(200, COMPLETION | usage), test)


def test_an_error_inside_an_answer_is_seen_where_the_model_is_in_the_path():
    """Nor for an error inside a 200 to be one."""

    async def test(url):
        async with httpx.AsyncClient() as client:
            path = "openai/deployments/mine/chat/completions"
            answer = await wrap(client, quick()).post(f"{url}/{path}", json={"messages": []})
            assert answer.json()["choices"]

    wrong = response(200, {"error": {"message": "no", "code": "api_error"}})
    assert len(against(in_turn(wrong, ANSWER), test).asked) == 2


def test_an_answer_that_is_a_list_is_an_answer():
    """Where no model is asked, an API may answer with a list, and nothing is tried again."""
    stack = quick()

    async def test(url):
        async with httpx.AsyncClient() as client:
            assert (await wrap(client, stack).get(f"{url}/things")).json() == [1, 2]

    assert len(against(response(200, [1, 2]), test).asked) == 1
    assert stack.statistics().outcomes == {Kind.OK: 1}
