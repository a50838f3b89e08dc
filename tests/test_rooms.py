"""The house: which file may import which, and what importing the package loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resilient_infe

PACKAGE = Path(resilient_infe.__file__).parent

BEHAVIOURS = {"timeouts", "retry", "slots", "circuit", "rate", "classify", "hedge", "fallback"}
"""Rooms of one behaviour each, which know nothing of one another."""

FLOORS = {
    "version": 0, "core": 0,
    "aio": 1,
    "telemetry": 2, "shared": 2,
    **dict.fromkeys(BEHAVIOURS, 3),
    "stack": 4, "batched": 4,
    "presets": 5, "adapters": 5,
    "batch": 6,
    "cli": 7,
    "__main__": 8,
}  # fmt: skip
"""A file imports from its own room and from lower floors; `testing` stands beside the house."""

ROOM_OF = {"errors": "core", "events": "core"}
"""Files that stand outside of their rooms, where their public names are."""

LAYERS = {
    ("telemetry", "request_id"), ("timeouts", "deadline"), ("timeouts", "attempt"),
    *((room, "layer") for room in BEHAVIOURS), ("batched", "batched"),
}  # fmt: skip
"""The files that hold a layer: in a room of a behaviour no other awaits, or knows of a loop."""

STAGES = "resilient_infe.rate.learning."
"""The learner's stages make one another, so these files count as one."""

IMPURE = {"asyncio", "anyio", "trio", "aiohttp", "httpx", "structlog", "time", "random", "logging"}


def modules():
    """Yield each file with its dotted path inside the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.relative_to(PACKAGE).with_suffix("").parts


def imports(path, parts, *, all_of_them=False):
    """Yield what a file imports when it runs: inside the package relative, outside absolute."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped and not all_of_them:
            continue
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = (*parts[: len(parts) - node.level], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            if node.module:
                yield ("resilient_infe", *base)
            yield from (("resilient_infe", *base, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield tuple((node.module or "").split("."))


def sources():
    """Yield each file, its dotted path, and every file of the package that it imports."""
    names = {
        ".".join(("resilient_infe", *parts)).removesuffix(".__init__") for _, parts in modules()
    }
    for path, parts in modules():
        me = ".".join(("resilient_infe", *parts)).removesuffix(".__init__")
        found = set()
        for target in imports(path, parts, all_of_them=True):
            name = ".".join(target)
            if name in names and name != me:
                found.add(name)
        yield me, found


@pytest.mark.parametrize(("path", "parts"), list(modules()), ids=lambda x: str(x)[-40:])
def test_imports_go_down(path, parts):
    """A file imports only from its own room or a lower floor, and testing only from the top."""
    mine = ROOM_OF.get(parts[0], parts[0])
    if mine in ("testing", "__init__"):
        return
    for target in imports(path, parts, all_of_them=True):
        if target[0] != "resilient_infe" or len(target) == 1:
            continue
        other = ROOM_OF.get(target[1], target[1])
        if other == "testing":
            assert mine == "cli", f"{path} imports testing"
            continue
        if other not in FLOORS or other == mine:  # a name of the package itself
            continue
        assert FLOORS[other] < FLOORS[mine], f"{path} imports {'.'.join(target)}"


def test_what_the_adapters_share_knows_none_of_them():
    """Each client's adapter imports from `adapters/http`, which imports from none of them."""
    for path, parts in modules():
        if parts[:2] == ("adapters", "http"):
            for target in imports(path, parts, all_of_them=True):
                if target[:2] == ("resilient_infe", "adapters"):
                    assert target[2:3] in ((), ("http",)), f"{path} imports {'.'.join(target)}"


def test_every_file_has_a_floor():
    """A new room must be given its place."""
    rooms = {ROOM_OF.get(parts[0], parts[0]) for _, parts in modules()} - {"testing", "__init__"}
    assert rooms <= set(FLOORS)


def test_there_is_no_circle_of_imports():
    """No file imports another that leads back to it, be it in a function or for type checkers."""
    wanted = {me: {STAGES if f.startswith(STAGES) else f for f in found} for me, found in sources()}
    wanted[STAGES] = set().union(*(found for me, found in wanted.items() if me.startswith(STAGES)))
    wanted[STAGES].discard(STAGES)
    graph = {me: found for me, found in wanted.items() if not me.startswith(STAGES[:-1] + ".x")}
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, " -> ".join([*under_way[under_way.index(name) :], name])
        if name in done:
            return
        under_way.append(name)
        for other in sorted(graph.get(name, ())):
            visit(other)
        done.add(under_way.pop())

    for name in sorted(graph):
        if not name.startswith(STAGES) or name == STAGES:
            visit(name)


@pytest.mark.parametrize("room", sorted(BEHAVIOURS | {"core", "batched"}))
def test_all_but_the_layers_are_pure(room):
    """No other file of a behaviour is asynchronous, or knows a loop, a clock, chance or a log."""
    for path, parts in modules():
        mine = ROOM_OF.get(parts[0], parts[0])
        if mine != room or parts in {*LAYERS, ("core", "guard")}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            waits = isinstance(node, ast.AsyncFunctionDef | ast.Await)
            assert not waits or parts == ("core", "runtime"), f"{path} waits"
        for target in imports(path, parts):
            assert target[0] not in IMPURE - {"logging"}, f"{path} imports {target[0]}"
            assert target[:2] != ("resilient_infe", "aio"), f"{path} imports aio"


def test_only_aio_touches_a_loop():
    """Below the adapters nothing but aio imports a loop or reads a clock."""
    for path, parts in modules():
        if parts[0] in ("aio", "adapters", "testing", "cli"):
            continue
        loaded = {target[0] for target in imports(path, parts)}
        assert not loaded & {"asyncio", "trio", "time"}, path


def test_only_log_touches_structlog():
    """Structlog is imported in one file."""
    users = [parts for path, parts in modules() if ("structlog",) in set(imports(path, parts))]
    assert users == [("telemetry", "log")]


def test_importing_loads_nothing_optional():
    """`import resilient_infe` loads no client, no trio and no optional package."""
    # rich is not in the list: structlog itself loads it where it is installed.
    unwanted = ("aiohttp", "httpx", "httpx2", "openai", "trio", "http_sf", "tomllib", "yarl")
    code = f"import resilient_infe, sys; print([m for m in {unwanted} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_command_line_loads_what_its_command_needs(arguments):
    """To ask for help or the version loads no command, and no client."""
    code = f"""
import contextlib, sys
from resilient_infe.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
    main({arguments})
print([m for m in sys.modules if m == "aiohttp" or m.startswith("resilient_infe.cli.")])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_dir_shows_the_public_names():
    """Completion in a shell or an editor finds names whose modules are not loaded yet."""
    assert dir(resilient_infe) == sorted([*resilient_infe.__all__, "__version__"])


def test_every_public_name_is_there():
    """All names of __all__ can be had, and a wrong one is an AttributeError."""
    for name in resilient_infe.__all__:
        assert getattr(resilient_infe, name) is not None
    with pytest.raises(AttributeError):
        _ = resilient_infe.nothing


def test_files_and_functions_stay_small():
    """No file over 400 lines, no function over 50: a reader must know their way."""
    for path, _ in modules():
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    size = node.end_lineno - body[0].lineno + 1
                    assert size <= 50, f"{path}:{node.lineno} {node.name} has {size} lines"
