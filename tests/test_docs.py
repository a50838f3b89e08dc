"""README and docs tell the truth: their code runs, and their links lead somewhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import re
import shlex
from pathlib import Path

import pytest

import resilient_infe
from resilient_infe.batch import phases
from resilient_infe.circuit.states import diagram
from resilient_infe.cli import _options
from resilient_infe.rate.learning import states
from resilient_infe.stack.order import ORDER
from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer

ROOT = Path(resilient_infe.__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
HOWTO = sorted((ROOT / "docs/howto").glob("*.md"))  # run by tests/clients and tests/engines
TUTORIAL = sorted((ROOT / "docs/tutorial").glob("*.md"))  # run by tests/test_tutorial.py


def blocks(path, language="python"):
    """Return the code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def anchors(path):
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]


def examples():
    """Yield each example of the docs with a readable name."""
    for path in sorted({*PAGES, ROOT / "CONTRIBUTING.md"} - {*HOWTO, *TUTORIAL}):
        for number, block in enumerate(blocks(path), 1):
            yield pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("block", list(examples()))
def test_examples_of_the_docs_run(block):
    """Each Python block of the docs runs as it stands."""
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block, "example", "exec"), {"__name__": "example"})


def test_the_readmes_first_example_prints_what_it_says():
    """The first example answers every call, and the README shows its output."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(blocks(ROOT / "README.md")[0], "README.md", "exec"), {"__name__": "example"})
    assert shown.getvalue() == blocks(ROOT / "README.md", "text")[0]


def test_the_readme_begins_as_the_first_page_does():
    """The first screen of both is the same text; only the links differ."""
    first, _, _ = (ROOT / "docs/index.md").read_text().partition("\n## ")
    readme, _, _ = (ROOT / "README.md").read_text().partition("\n```console\n$ make demo")
    assert readme.replace("](docs/", "](").rstrip() == first.rstrip()


def commands():
    """Yield each command of `resilient-infe` that a page shows, by its page."""
    for path in [ROOT / "README.md", *PAGES]:
        pattern = r"^\$ (?:python -m resilient_infe|resilient-infe) (.*)$"
        for arguments in re.findall(pattern, path.read_text(), re.MULTILINE):
            plain = re.sub(r" [>&].*", "", arguments)  # without what is the shell's
            yield pytest.param(plain, id=f"{path.relative_to(ROOT)}: {plain}")


@pytest.mark.parametrize("arguments", list(commands()))
def test_a_command_of_a_page_is_one(arguments):
    """The command's parser takes what the pages show."""
    assert _options(shlex.split(arguments, comments=True)).run


@pytest.mark.network
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_readmes_second_example_runs():
    """The reference's own snippet with one line added answers, at the stand-in's address."""

    async def main():
        async with InfeServer(InfeModel(latency=0.0)).running() as url:
            code = blocks(ROOT / "README.md")[1].replace("https://api.infe.io/v1", url)
            space = {"__name__": "example"}
            exec(compile(code, "README.md", "exec"), space)
            return await space["ask"]("sk-test")

    assert asyncio.run(main()).startswith("word")
    gc.collect()  # the snippet leaves its client open, as the reference does


def test_the_readmes_stack_prints_what_it_says():
    """The README shows the real output of its third example."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(blocks(ROOT / "README.md")[2], "README.md", "exec"), {"__name__": "example"})
    assert shown.getvalue() in blocks(ROOT / "README.md", "text")


@pytest.mark.parametrize("preset", ["service", "batch"])
def test_the_presets_print_what_their_page_says(preset):
    """docs/presets.md shows the real output of both presets."""
    stack = getattr(resilient_infe.presets, preset)(
        requests_per_minute=600, tokens_per_minute=200_000
    )
    assert f"{stack}\n" in blocks(ROOT / "docs/presets.md", "text")


@pytest.mark.network
def test_the_designs_public_names_run():
    """The example of every public name works from end to end, a wrapped SDK client included."""
    import openai

    from resilient_infe import (
        AttemptTimeout,
        Call,
        Circuit,
        CircuitBreaker,
        ConcurrencyLimiter,
        Deadline,
        ErrorClassifier,
        ExponentialBackoff,
        Handler,
        InfeTransport,
        RateLimiter,
        RequestIdLogger,
        Retry,
        Stack,
        call_options,
        presets,
        wrap,
    )

    async def tag_team(call: Call, call_next: Handler):
        call.tags["team"] = "evals"
        return await call_next(call)

    messages = [{"role": "user", "content": "hi"}]
    payload = {"model": "infe-titan", "messages": messages}
    stack = Stack(
        RequestIdLogger(),
        Deadline(120.0),
        Retry(max_attempts=6, backoff=ExponentialBackoff(initial=1.0, factor=2.0, maximum=60.0)),
        ConcurrencyLimiter(64),
        RateLimiter(requests_per_minute=600, tokens_per_minute=200_000),
        CircuitBreaker(
            Circuit(failure_ratio=0.5, minimum_calls=20, window=10.0, open_for=10.0, probes=3)
        ),
        tag_team,
        ErrorClassifier(),
        AttemptTimeout(60.0),
    )

    async def main():
        async with InfeServer(InfeModel(latency=0.0)).running() as url:
            async with InfeTransport("sk-test", base_url=url) as transport:
                send = stack.around(transport)
                first = await send(payload)
                second = await send(
                    payload,
                    tokens=1_200,
                    partition="infe-titan",
                    request_id="row-17",
                    deadline=30.0,
                    tags={"team": "evals"},
                )
            async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as sdk:
                client = wrap(sdk, stack)
                with call_options(tokens=1_200, partition="infe-titan", request_id="row-18"):
                    third = await client.chat.completions.create(**payload)
            assert await stack.drain(30.0) == 0
            return first, second, third

    first, second, third = asyncio.run(main())
    assert first["choices"]
    assert second["choices"]
    assert third.choices
    assert "Stack of 9 layers" in str(stack)
    assert stack.statistics().calls == 3
    assert presets.service(requests_per_minute=5)
    assert presets.batch(requests_per_minute=5)


def test_the_diagram_is_drawn_from_the_table():
    """The page of each state machine holds the diagram of its table, to the letter."""
    assert diagram() + "\n" in blocks(ROOT / "docs/layers/breaker.md", "mermaid")
    assert states.diagram() + "\n" in blocks(ROOT / "docs/learning.md", "mermaid")
    assert phases.diagram() + "\n" in blocks(ROOT / "docs/batch.md", "mermaid")


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *PAGES], ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    """No link of a page to a file, or to a heading of one, is dead."""
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", path.read_text()):
        page = path.parent / target if target else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


def test_every_howto_page_is_run_by_tests_of_its_own():
    """Each page stands in a table of the index, and a module for its client or engine runs it."""
    modules = [
        path.read_text()
        for folder in ("clients", "engines")
        for path in (ROOT / "tests" / folder).glob("test_*.py")
    ]
    run = set(re.findall(r'^(?:    page|PAGE) = "(.*)"', "".join(modules), re.MULTILINE))
    index = ROOT / "docs/howto/index.md"
    listed = re.findall(r"\]\(([a-z0-9_-]+)\.md\) \|$", index.read_text(), re.MULTILINE)
    assert sorted(run) == sorted(listed) == [path.stem for path in HOWTO if path != index]


def test_every_layer_has_a_page():
    """A layer without a page is not documented."""
    pages = [path.read_text().split("\n", 1)[0] for path in (ROOT / "docs/layers").glob("*.md")]
    assert sorted(pages) == sorted(f"# {layer.__name__}" for layer in ORDER)
