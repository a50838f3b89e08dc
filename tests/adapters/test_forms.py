"""Bodies that httpx is given in odd forms, and answers that are odd."""

from __future__ import annotations

import gzip
import io

import pytest
from askers import httpx_and_httpx2
from loopback import ASK, ERROR, against, quick, response

from resilient_infe import Kind, wrap

pytestmark = [pytest.mark.network, httpx_and_httpx2]


class Unseekable(io.BytesIO):
    """A file that cannot be rewound."""

    def seekable(self):
        """Say so."""
        return False


FORMS = {
    "fields": ({"data": {"one": "two"}}, 3),
    "bytes": ({"files": {"f": b"one two"}}, 3),
    "file": ({"files": {"f": ("name", lambda: io.BytesIO(b"one two"))}}, 3),
    "unseekable": ({"files": {"f": ("name", lambda: Unseekable(b"one two"))}}, 1),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_form_is_sent_again_whole_or_not_at_all(library, form):
    """Fields and files that can be rewound are sent again whole; a file that cannot is not."""
    options, times = form
    files = {
        name: (value[0], value[1]()) if isinstance(value, tuple) else value
        for name, value in options.get("files", {}).items()
    }

    async def test(url):
        async with library.AsyncClient() as client:
            answer = await wrap(client, quick()).post(url, data=options.get("data"), files=files)
            assert answer.status_code == 500

    asked = against(ERROR, test).asked
    assert len(asked) == times
    assert len({each.body for each in asked}) == 1
    assert b"two" in asked[0].body


def test_a_bomb_is_not_unpacked(library):
    """It is refused, as a failure of the server, and is not kept in memory."""
    bomb = gzip.compress(b" " * 80_000_000, 1)
    stack = quick(max_attempts=1)

    async def test(url):
        async with library.AsyncClient() as client:
            with pytest.raises(library.DecodingError, match="like a decompression bomb"):
                await wrap(client, stack).post(url, json=ASK)

    against(response(200, bomb, content_encoding="gzip"), test)
    assert stack.statistics().outcomes == {Kind.TRANSIENT: 1}
