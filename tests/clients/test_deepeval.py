"""docs/howto/deepeval.md."""

from __future__ import annotations

import openai
from contract import Contract


class TestDeepeval(Contract):
    """The errors are the SDK's own."""

    page = "deepeval"
    failed = openai.InternalServerError
    denied = openai.AuthenticationError
    refused = openai.InternalServerError
    late = openai.APITimeoutError
