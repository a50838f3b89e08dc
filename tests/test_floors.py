"""The house: which file may import which, and what importing the package loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resilient_infe

PACKAGE = Path(resilient_infe.__file__).parent

FLOORS = {
    "verdict": 0, "call": 0, "errors": 0, "emitter": 0, "events": 0,
    "policies": 1, "aio": 1, "log": 1,
    "guard": 1, "layers": 2,
    "stack": 3, "presets": 3,
    "adapters": 4, "telemetry": 4,
    "batch": 5,
    "cli": 6, "demo": 6, "__main__": 6,
}  # fmt: skip
"""A file imports only from its own floor and lower ones; `testing` stands beside the house."""

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
            else:
                yield from (("resilient_infe", *base, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield tuple((node.module or "").split("."))


@pytest.mark.parametrize(("path", "parts"), list(modules()), ids=lambda x: str(x)[-40:])
def test_imports_go_down(path, parts):
    """A file imports only from its own floor or a lower one, and testing only from the top."""
    mine = parts[0]
    if mine in ("testing", "__init__"):
        return
    for target in imports(path, parts):
        if target[0] != "resilient_infe" or len(target) == 1:
            continue
        other = target[1]
        if other == "testing":
            assert mine in ("cli", "demo"), f"{path} imports testing"
            continue
        if other not in FLOORS:  # a name of the package itself
            continue
        assert FLOORS[other] <= FLOORS[mine], f"{path} imports {'.'.join(target)}"


def test_every_file_has_a_floor():
    """A new file must be given its place."""
    rooms = {parts[0] for _, parts in modules()} - {"testing", "__init__"}
    assert rooms <= set(FLOORS)


def test_policies_are_pure():
    """No policy imports a loop, a clock, a random source, a logger or a layer."""
    for path, parts in modules():
        if parts[0] != "policies":
            continue
        for target in imports(path, parts):
            assert target[0] not in IMPURE, f"{path} imports {target[0]}"


def test_only_aio_touches_a_loop():
    """Below the adapters nothing but aio imports a loop or reads a clock."""
    for path, parts in modules():
        if parts[0] in ("aio", "adapters", "testing", "cli", "demo"):
            continue
        loaded = {target[0] for target in imports(path, parts)}
        assert not loaded & {"asyncio", "trio", "time"}, path


def test_only_log_touches_structlog():
    """Structlog is imported in one file."""
    users = [parts for path, parts in modules() if ("structlog",) in set(imports(path, parts))]
    assert users == [("log",)]


def test_importing_loads_nothing_optional():
    """`import resilient_infe` loads no client, no trio and no optional package."""
    # rich is not in the list: structlog itself loads it where it is installed.
    unwanted = ("aiohttp", "httpx", "httpx2", "openai", "trio", "http_sf", "yarl")
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
    assert shown.stdout.strip() == "['resilient_infe.cli.config']"


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
    """No file over 350 lines, no function over 50: a reader must know their way."""
    for path, _ in modules():
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    size = node.end_lineno - body[0].lineno + 1
                    assert size <= 50, f"{path}:{node.lineno} {node.name} has {size} lines"
