"""The names that OpenTelemetry's conventions for generative AI give to what is told of a call.

The conventions are still in development, and v0.1.0 renamed most metrics. Dashboards of today read
the older names, those of semantic conventions v1.36, so these are the default, as the conventions
ask. ``OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`` chooses v0.1.0. The value may be a
list with commas, because other libraries read it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.verdict import Kind
from .measured import Labels

SWITCH = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""The environment variable that chooses the conventions."""

LATEST = "gen_ai_latest_experimental"
"""The part of its value that chooses the newest ones."""

DURATION_BUCKETS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92
)  # fmt: skip
"""Upper bounds of durations in seconds, as the conventions advise."""

TOKEN_BUCKETS = tuple(4**power for power in range(14))
"""Upper bounds of numbers of tokens, as the conventions advise."""


@dataclass(frozen=True, slots=True)
class Conventions:
    """One version of the names; None, or no entry, for what a version does not have.

    Attributes:
        provider: the attribute with the provider's name.
        operation, model: the attributes with what was asked of which model.
        error: the attribute with the class of the error.
        address, port: the attributes with the server's.
        resend, status: the attributes of an attempt with the number of those before it, and with
            the status of its answer.
        response_id, response_model: the attributes with what the answer says of itself.
        stream: the attribute of a call that asked for a stream.
        first_chunk: the attribute with the seconds to the first chunk of a stream.
        usage: the attribute for each part of a usage, by the field of `Usage`.
        duration: the histogram of the durations of calls.
        first_chunks: the histogram of the seconds to the first chunk of streams.
        token_usage: the histogram of the tokens of calls.
        token_type: its attribute that says which tokens.
        counters: the counter for each part of a usage, by the field of `Usage`.
    """

    provider: str
    duration: str
    operation: str = "gen_ai.operation.name"
    model: str = "gen_ai.request.model"
    error: str = "error.type"
    address: str = "server.address"
    port: str = "server.port"
    resend: str = "http.request.resend_count"
    status: str = "http.response.status_code"
    response_id: str = "gen_ai.response.id"
    response_model: str = "gen_ai.response.model"
    stream: str | None = None
    first_chunk: str | None = None
    usage: Mapping[str, str] = field(default_factory=dict)
    first_chunks: str | None = None
    token_usage: str | None = None
    token_type: str = "gen_ai.token.type"  # noqa: S105  # no secret
    counters: Mapping[str, str] = field(default_factory=dict)


V1_36 = Conventions(
    provider="gen_ai.system",
    duration="gen_ai.client.operation.duration",
    usage={
        "prompt_tokens": "gen_ai.usage.input_tokens",
        "completion_tokens": "gen_ai.usage.output_tokens",
    },
    token_usage="gen_ai.client.token.usage",  # noqa: S106  # no secret
)
"""The older names."""

V0_1_0 = Conventions(
    provider="gen_ai.provider.name",
    duration="gen_ai.client.inference.duration",
    stream="gen_ai.request.stream",
    first_chunk="gen_ai.response.time_to_first_chunk",
    first_chunks="gen_ai.client.inference.time_to_first_chunk",
    usage={
        "prompt_tokens": "gen_ai.usage.input_tokens",
        "completion_tokens": "gen_ai.usage.output_tokens",
        "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
        "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
        "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    },
    counters={
        "prompt_tokens": "gen_ai.client.inference.usage.input_tokens",
        "completion_tokens": "gen_ai.client.inference.usage.output_tokens",
        "cached_tokens": "gen_ai.client.inference.usage.cache_read.input_tokens",
        "cache_write_tokens": "gen_ai.client.inference.usage.cache_write.input_tokens",
        "reasoning_tokens": "gen_ai.client.inference.usage.reasoning.output_tokens",
    },
)
"""The names of the GenAI conventions v0.1.0."""


def chosen(switch: str | None) -> Conventions:
    """Return the conventions that the value of `SWITCH` chooses."""
    return V0_1_0 if LATEST in map(str.strip, (switch or "").split(",")) else V1_36


def error_type(kind: Kind, status: int | None, error: str | None, labels: Labels) -> str:
    """Return the class of an error: the status, else the exception's class, else the kind.

    Where there is a status, `error` may be a text of the server's.

    Args:
        kind: the kind of outcome.
        status: the HTTP status; None without a response.
        error: the name of what was raised, or None.
        labels: bounds the number of names.
    """
    if kind is Kind.CANCELLED:
        return kind.value  # the rest is that of an attempt before
    if status is not None:
        return str(status) if status >= 400 else kind.value
    return labels.of(error) if error else kind.value
