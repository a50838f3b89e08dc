"""What the tests of the engines share: a stand-in, a Redis, and the program of a page."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from benchmarks.engines import HOWTO, redis, stand_in
from resilient_infe.testing import InfeModel


class Place:
    """Where a program of docs/howto/engines.md runs: with a server, a Redis and a folder."""

    def __init__(self, folder, model, url, store):
        """Give the program what it reads from its environment."""
        self.folder, self.model = folder, model
        self.url, self.redis = url, store
        self.blocks = [[f"word {block} {row}" for row in range(20)] for block in range(5)]
        self.prompts = [prompt for block in self.blocks for prompt in block]
        self._environment = os.environ | {
            "INFE_API_KEY": "sk-test",
            "INFE_BASE_URL": url,
            "REDIS_URL": store,
        }

    def run(self, heading, last):
        """Run the program under a heading of the page, and `last` after it; return the output."""
        page = (HOWTO / "engines.md").read_text()
        section = page[page.index(f"\n## {heading}\n") :]
        block = re.search(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[1]
        program = self.folder / "program.py"
        program.write_text(f'{block}\n\nif __name__ == "__main__":\n    print("=", {last})\n')
        shown = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", str(program)],
            capture_output=True, text=True, cwd=self.folder, env=self._environment,
            timeout=300, check=False,
        )  # fmt: skip
        assert shown.returncode == 0, shown.stderr[-3000:]
        assert "ResourceWarning" not in shown.stderr
        return re.findall("^= (.*)$", shown.stdout, re.MULTILINE)[-1]


@pytest.fixture
def place(tmp_path):
    """Return where a program runs."""
    model = InfeModel(requests_per_minute=6_000)
    with redis(tmp_path) as store, stand_in(model) as url:
        yield Place(tmp_path, model, url, store)
