"""What the tests of clients share: one certificate to load instead of all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

END = "-----END CERTIFICATE-----\n"


@pytest.fixture(scope="session", autouse=True)
def _one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let clients load one authority: all of them take 30 ms for each client that is made."""
    first = Path(certifi.where()).read_text("ascii", "ignore").partition(END)[0] + END
    one = tmp_path_factory.mktemp("certificates") / "one.pem"
    one.write_text(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "SSL_CERT_FILE", str(one))
        yield
