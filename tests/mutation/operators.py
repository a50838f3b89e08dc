"""The mutants of a source: each is one small change that a test should notice.

Decorators and annotations stay as they are: what `slots=True` or a type says, no test can see.
So do strings and docstrings. A mutant is a splice of the text, so that everything else in the file,
comments and lines too, stays as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip

ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip

DELETED = (ast.Assign, ast.AugAssign, ast.Raise, ast.Delete, ast.Continue, ast.Break)
"""Statements that are deleted; a call whose result nobody takes is one more."""


@dataclass(frozen=True, slots=True, order=True)
class Mutant:
    """One change.

    Attributes:
        path: the file, relative to the root of the repository.
        start: where the text that changes begins, in characters.
        end: where it ends.
        new: what stands there instead.
        kind: the kind of change.
        line: the line on which it begins, from 1.
        old: what stood there.
    """

    path: str
    start: int
    end: int
    new: str
    kind: str
    line: int
    old: str

    @property
    def key(self) -> str:
        """Return what no other mutant of the same files has."""
        return f"{self.path}:{self.start}:{self.end}:{self.new}"

    def applied(self, source: str) -> str:
        """Return the source with the change."""
        return source[: self.start] + self.new + source[self.end :]

    def __str__(self) -> str:
        """Return the place and the change, for a list."""
        return f"{self.path}:{self.line}: {self.kind}: {self.old!r} -> {self.new!r}"


def mutants(path: str, source: str) -> list[Mutant]:
    """Return every mutant of a file, in order."""
    at = _offsets(source)
    found = []
    for node, new, kind in _changes(ast.parse(source)):
        start = at(node.lineno, node.col_offset)
        end = at(node.end_lineno, node.end_col_offset)
        found.append(Mutant(path, start, end, new, kind, node.lineno, source[start:end]))
    return sorted(found)


def _offsets(source: str):
    """Return what turns a line and a column, in bytes, into a place in the text."""
    lines = [f"{line}\n" for line in source.split("\n")]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    return lambda line, column: starts[line - 1] + len(lines[line - 1].encode()[:column].decode())


def _changes(node: ast.AST, *, inside: bool = False) -> Iterator[tuple[ast.AST, str, str]]:
    """Yield each node to replace, its new text and the kind of change; `inside` of a function."""
    yield from _own(node, inside)
    function = isinstance(node, ast.FunctionDef | ast.Lambda)
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "annotation", "returns", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _left_alone(child):
                yield from _changes(child, inside=inside or function)


def _own(node, inside):
    """Yield the changes of a node itself."""
    if isinstance(node, ast.Compare):
        yield from _compared(node)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield *_with(node, op=ARITHMETIC[type(node.op)]()), "arithmetic"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield *_with(node, op=other), "and, or"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node, f"({ast.unparse(node.operand)})", "not, minus"
    elif isinstance(node, ast.Constant):
        yield from _constant(node)
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("min", "max"):
        yield node.func, "max" if node.func.id == "min" else "min", "min, max"
    elif inside and _deletable(node):
        yield from _statement(node)
    conditions = node.ifs if isinstance(node, ast.comprehension) else []
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        conditions = [node.test]
    for each in conditions:
        yield each, f"(not ({ast.unparse(each)}))", "negated"


def _statement(node):
    yield node, "pass", "deleted"
    if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield *_with(node, op=ARITHMETIC[type(node.op)]()), "in place"


def _compared(node):
    for number, op in enumerate(node.ops):
        if type(op) in COMPARISONS:
            ops = [*node.ops]
            ops[number] = COMPARISONS[type(op)]()
            yield *_with(node, ops=ops), "comparison"


def _constant(node):
    value = node.value
    if isinstance(value, bool):
        yield node, str(not value), "boolean"
    elif isinstance(value, int):
        yield node, str(value + 1), "number"
    elif isinstance(value, float):
        yield node, repr(2.0 * value if value else 1.0), "number"


def _with(node, **changed):
    """Return a node, and the text of its copy in which some fields differ."""
    fields = dict(ast.iter_fields(node)) | changed
    text = ast.unparse(ast.copy_location(type(node)(**fields), node))
    return node, text if isinstance(node, ast.stmt) else f"({text})"


def _deletable(node):
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return called or isinstance(node, DELETED)


def _left_alone(node):
    """Say whether this is a string, or for a type checker alone."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.JoinedStr)
