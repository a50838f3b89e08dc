"""docs/inputs.md shows inputs that are read: each block is a file of the name above it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from inputs import rows_of

import resilient_infe
from resilient_infe.errors import RowError

PAGE = Path(resilient_infe.__file__).parent.parent / "docs/inputs.md"

FOUND = {
    "requests.jsonl": ["a", "line-2", "line-3", "line-4"],
    "embeddings.jsonl": ["a", "line-2"],
    "requests.json": ["a", "row-2"],
    "reviews.csv": ["r1", "r2"],
    "table.csv": ["7", "8"],
    "data.jsonl": ["7", "8"],
}
"""The ids of each example's rows."""


def examples():
    """Yield the name, the options and the content of each example."""
    for part in re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        options = re.findall(r"--(prompt|id)-column (\w+)", part.partition("Options: ")[2])
        block = re.search(r"^```(?:json|csv)\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
        yield pytest.param(
            {f"{name}_column": value for name, value in options},
            block.group(1),
            id=part.partition("\n")[0],
        )


@pytest.mark.parametrize(("options", "content"), list(examples()))
def test_an_example_is_read(options, content, request):
    """Each of its rows is a request with a body and an id."""
    name = request.node.callspec.id
    rows = rows_of(content.encode(), name, **options)
    assert not [str(row) for row in rows if isinstance(row, RowError)]
    assert [row.custom_id for row in rows] == FOUND[name]


def test_every_form_has_an_example():
    """None is missing on the page."""
    assert [each.id for each in examples()] == list(FOUND)
