"""What a job over files is told, and whether that can be meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...adapters.infe.address import BASE_URL
from ...core.by_model import Count, Rate
from ...errors import BatchError, ConfigurationError
from ...rate.estimate import estimate_tokens
from ..request import CHAT, LONGEST, Defaults
from .output import STDOUT

NO_KEY = "none"
"""What is sent to a server on this machine where no key was given."""

RATES = (
    "requests_per_minute",
    "tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "requests_per_day",
    "tokens_per_day",
)
"""The limits of a rate, in the order in which they are said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a job is told.

    Attributes:
        input: a path, or ``-`` for stdin.
        output: a path, or ``-`` for stdout.
        errors: the path for failures.
        journal: its path.
        api_key: the key, or None for the environment's.
        base_url: where the API is, up to and with ``/v1``.
        model: for lines that name none.
        url: the endpoint for lines that name none.
        prompt_column, id_column: the columns, or fields, that hold the prompt and the id.
        max_line: bytes of a line.
        proxy: the URL of an HTTP proxy, or None.
        trust_env: whether to use the proxy that the environment names.
        concurrency: attempts in flight per model.
        requests_per_minute, tokens_per_minute: the limits per model; None to learn them. These and
            those below, and `concurrency`, may be mappings from model to value, with ``"*"`` for
            each other model.
        account: the limits over all models, by name, or None.
        input_tokens_per_minute, output_tokens_per_minute: the same for a part of the tokens.
        requests_per_day, tokens_per_day: the limits of any 24 hours, or None.
        cached_weight: what a token from the provider's cache counts; None to count as the usage.
        follow_headers: whether to follow the limits that the server states.
        count: returns the tokens of a request's body.
        max_attempts: attempts that may fail, 429s not counted.
        attempt_timeout: seconds for one attempt.
        deadline: seconds for each row, waits included, or None.
        ordered: whether results stand in the order of the input.
        limit: rows that are sent at most, or None.
        skip_bad: go on without the lines that are no requests.
        retry_failed: send rows again that failed for good.
        keep_going: never pause, however many rows fail alike.
        salvage: leave out damaged rows of the journal.
        overwrite: replace an output that no journal belongs to.
    """

    input: str
    output: str
    errors: str
    journal: str
    api_key: str | None = field(default=None, repr=False)
    base_url: str = BASE_URL
    model: str | None = None
    url: str = CHAT
    prompt_column: str | None = None
    id_column: str | None = None
    max_line: int = LONGEST
    proxy: str | None = None
    trust_env: bool = False
    concurrency: Count = 64
    requests_per_minute: Rate = None
    tokens_per_minute: Rate = None
    account: Mapping[str, float] | None = None
    input_tokens_per_minute: Rate = None
    output_tokens_per_minute: Rate = None
    requests_per_day: Rate = None
    tokens_per_day: Rate = None
    cached_weight: float | None = None
    follow_headers: bool = True
    count: Callable[[Any], float] = estimate_tokens
    max_attempts: int = 10
    attempt_timeout: float = 120.0
    deadline: float | None = None
    ordered: bool = False
    limit: int | None = None
    skip_bad: bool = False
    retry_failed: bool = False
    keep_going: bool = False
    salvage: bool = False
    overwrite: bool = False

    @property
    def rates(self) -> dict[str, Rate]:
        """The limits of a rate, by name."""
        return {name: getattr(self, name) for name in RATES}

    @property
    def most_in_flight(self) -> int:
        """The number of attempts in flight, of all models that are named."""
        count = self.concurrency
        return sum(count.values()) if isinstance(count, Mapping) else count


def defaults_of(options: JobOptions) -> Defaults:
    """Return how the rows of the input are read."""
    return Defaults(
        options.model,
        options.url,
        options.prompt_column,
        options.id_column,
        options.max_line,
    )


def check_paths(options: JobOptions) -> None:
    """Refuse paths that cannot be meant.

    Raises:
        BatchError: a file of somebody else's would be replaced.
        ConfigurationError: two of them are one, or cannot be files.
    """
    names = {"the input": options.input, "--output": options.output}
    names |= {"--errors": options.errors, "--journal": options.journal}
    seen: dict[str, str] = {}
    for name, path in names.items():
        if path == STDOUT:
            if name in ("--errors", "--journal"):
                raise ConfigurationError(f"{name} is a file; give its path")
            continue
        real = os.path.realpath(path)
        if real in seen:
            raise ConfigurationError(f"{seen[real]} and {name} are the same file: {path}")
        seen[real] = name
        if name != "the input" and Path(path).is_dir():
            raise ConfigurationError(
                f"{path} cannot be written, it is a folder: give {name} the path of a file"
            )
        if name != "the input" and not Path(path).parent.is_dir():
            raise ConfigurationError(f"{name}: there is no folder {Path(path).parent}")
    if options.overwrite or Path(options.journal).exists():
        return
    for name in ("--output", "--errors"):
        path = names[name]
        if path != STDOUT and Path(path).is_file() and Path(path).stat().st_size:
            raise BatchError(
                f"{path} exists and no journal belongs to it ({options.journal}): give another "
                f"{name}, or --overwrite"
            )


def key_for(options: JobOptions) -> str | None:
    """Return the key; a server on this machine need not be given one.

    Raises:
        ConfigurationError: there is none.
    """
    if options.api_key is not None or os.environ.get("INFE_API_KEY"):
        return options.api_key
    if is_local(options.base_url):
        return NO_KEY
    raise ConfigurationError("no API key: set INFE_API_KEY, or give --api-key-file FILE")


def is_local(base_url: str) -> bool:
    """Return whether a base URL is of a server on this machine."""
    host = base_url.partition("://")[2].partition("/")[0].rpartition(":")[0] or base_url
    return host in ("127.0.0.1", "localhost", "[::1]")


def place_of(base_url: str) -> str:
    """Return what a journal remembers of a base URL: a port on this machine comes and goes."""
    base_url = base_url.rstrip("/")
    if not is_local(base_url):
        return base_url
    scheme, _, rest = base_url.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host.rpartition(':')[0]}/{path}"
