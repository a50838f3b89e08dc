"""The tutorials do what they say: their commands and programs are run against the stand-in."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import shutil
from pathlib import Path

import pytest
from served import served

import resilient_infe
from resilient_infe import InfeTransport, presets
from resilient_infe.cli import _options, main
from resilient_infe.cli.serve import model_of

DOCS = Path(resilient_infe.__file__).parent.parent / "docs"
ADDRESS = "http://127.0.0.1:8123/v1"


def steps(page, language):
    """Return the blocks of a page in these languages, each with its language."""
    text = (DOCS / page).read_text()
    return re.findall(rf"^```({language})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(block):
    """Return the arguments of each `resilient-infe` in a block of the console."""
    found = re.findall(r"^\$ resilient-infe (.*)$", block, re.MULTILINE)
    return [shlex.split(arguments) for arguments in found]


@pytest.fixture
def played(tmp_path, monkeypatch, capsys):
    """Return what runs a page in an empty folder, and returns what each block printed."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DOCS / "examples", tmp_path / "docs/examples")

    def ran(language, block):
        if language == "python":
            exec(compile(block, "program", "exec"), {"__name__": "program"})
        for arguments in commands(block) if language == "console" else ():
            if arguments[0] != "serve":
                assert main(arguments) == 0
        told = capsys.readouterr()
        return told.out + told.err

    def play(page, *, per_minute=None):
        blocks = steps(page, "console|python")
        if per_minute:  # a page's limit would take seconds
            blocks = [(kind, re.sub("3_?000", str(per_minute), block)) for kind, block in blocks]
        [serve] = [each for _, block in blocks for each in commands(block) if each[0] == "serve"]
        model = model_of(_options([*serve[:-1], "--latency", "0"]))  # without its &
        with served(model) as (url, _):
            for name in ("OPENAI_BASE_URL", "INFE_BASE_URL"):
                monkeypatch.setenv(name, url)
            monkeypatch.setenv("OPENAI_API_KEY", "any")
            return [ran(kind, block.replace(ADDRESS, url)) for kind, block in blocks], model

    return play


def shape(text):
    """Return what a text with any numbers in place of its own looks like."""
    return re.sub(r"\d+", r"\\d+", text)


@pytest.mark.network
def test_a_client_is_wrapped(played):
    """Without the line calls are lost, how many depends on the machine; with it none is."""
    (_, without, wrapped, stack), model = played("tutorial/wrap.md")
    [lost, all_answered] = [block for _, block in steps("tutorial/wrap.md", "text")]
    assert re.fullmatch(shape(lost), without)
    assert re.fullmatch(shape(all_answered), wrapped)
    assert wrapped.splitlines()[0] == all_answered.splitlines()[0]
    assert stack.startswith("Stack of 8 layers")
    assert model.books.answered >= 100


@pytest.mark.network
def test_a_batch_is_run(played):
    """The run that was cut short goes on, every row has a result, and none is sent twice."""
    shown, model = played("tutorial/run-a-batch.md", per_minute=60_000)
    [(_, complete)] = steps("tutorial/run-a-batch.md", "text")
    assert complete in shown[2]
    assert "100 rows" in shown[-1]
    assert Path("report.html").exists()
    assert model.books.answered == 300


@pytest.mark.network
def test_a_service_answers(played):
    """One request in ten fails, and no caller notices."""
    shown, _ = played("tutorial/service.md", per_minute=60_000)
    [(_, told)] = steps("tutorial/service.md", "text")
    assert shown[-1] == told


async def run(block, space):
    """Run a block that may await at its top, as a cell of a notebook may."""
    code = compile(block, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, space)
    if inspect.isawaitable(result):
        await result


def test_the_cells_of_a_notebook_run():
    """The cells run one after the other in one loop, as in a notebook."""
    space = {}

    async def cells():
        for _, cell in steps("notebooks.md", 'python title="Cell"'):
            await run(cell, space)

    asyncio.run(cells())
    assert len(space["found"]) == 3


SERVED = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in sorted(DOCS.rglob("*.md"))
    for number, (_, block) in enumerate(steps(page, 'python title="With a server"'))
]


@pytest.mark.network
@pytest.mark.parametrize("block", SERVED)
def test_an_example_that_needs_a_server_runs(block, monkeypatch, capsys):
    """It runs with the stand-in in place of the API, and with what its page has made before."""
    with served() as (url, _):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        code = block.replace("InfeTransport()", f"InfeTransport('any', base_url={url!r})")
        if "asyncio.run(" in code:
            exec(code, {"__name__": "example"})
            return

        async def example():
            async with InfeTransport("any", base_url=url) as transport:
                made = {"transport": transport, "stack": presets.service()}
                body = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}
                made |= {"url": f"{url}/chat/completions", "body": body}
                await run(code, made)
                if "client" in made:
                    await made["client"].close()

        asyncio.run(example())
