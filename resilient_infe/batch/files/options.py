"""What a job over files is told, and whether that can be meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...adapters.infe.address import BASE_URL
from ...core.by_model import Count, Rate
from ...errors import BatchError, ConfigurationError
from ...presets import BATCH_ATTEMPTS, BATCH_TIMEOUT, CONCURRENCY
from ...rate.estimate import estimate_tokens
from ..kinds import (
    count,
    from_zero,
    positive,
    rate,
    redis_url,
    shared_name,
    size,
    weight,
)
from ..prices import Price, has_list, listed, per_million
from ..request import CHAT, LONGEST, Defaults
from .option import option, options_of
from .output import STDOUT

NO_KEY = "none"
"""What is sent to a server on this machine where no key was given."""

NO_PROXY = "none"
"""Stands for a proxy where none is to be used, whatever the environment names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a job is told. The text of each option says what it is.

    Attributes:
        count: returns the tokens of a request's body.
        account: the limits over all models, by name, or None.
        stack: the layers of a stack, as `Stack.from_config` takes them; None for the preset's.
    """

    input: str = option(
        ..., "JSON lines, a JSON array or CSV, also .gz and .zst; `-` is stdin", "INPUT",
        group="input", positional=True,
    )  # fmt: skip
    prompt_column: str | None = option(
        None, "the column (or field) that is the prompt; the others are not sent", "NAME",
        group="input", usual="prompt",
    )  # fmt: skip
    id_column: str | None = option(
        None, "the column (or field) that is the custom_id", "NAME",
        group="input", usual="custom_id",
    )  # fmt: skip
    max_line: int = option(
        LONGEST, "the longest line, like `64MiB`", "SIZE", size, group="input", usual="16MiB"
    )
    skip_bad: bool = option(False, "go on without the lines that are no requests", group="input")
    output: str = option(
        ..., "results, in the form of OpenAI's Batch; `-` is stdout, and needs `--journal`", "FILE",
        group="results", short=("-o",),
    )  # fmt: skip
    errors: str = option(
        ..., "failures, in the same form", "FILE", group="results", usual="OUTPUT.errors.jsonl"
    )
    journal: str = option(..., "what was done", "FILE", group="results", usual="OUTPUT.journal")
    ordered: bool = option(False, "results in the order of the input", group="results")
    overwrite: bool = option(False, "replace an output that has no journal", group="results")
    salvage: bool = option(False, "go on without the journal's damaged rows", group="results")
    limit: int | None = option(
        None, "send at most so many rows in this run", "N", count, group="run"
    )
    retry_failed: bool = option(False, "send rows again that failed for good", group="run")
    keep_going: bool = option(False, "never pause, however many rows fail alike", group="run")
    base_url: str = option(
        BASE_URL, "where the API is, up to and with `/v1`", "URL",
        group="API", environment="INFE_BASE_URL",
    )  # fmt: skip
    proxy: str | None = option(
        None, "the URL of an HTTP proxy, or `none`; if not given, that of `HTTPS_PROXY` or "
        "`HTTP_PROXY`, but not for hosts in `NO_PROXY` and for this machine", "URL", group="API",
    )  # fmt: skip
    api_key: str | None = option(None, "", "KEY", group="API")
    model: str | None = option(None, "for lines that name none", "ID", group="API")
    url: str = option(CHAT, "for lines that name none", "PATH", group="API")
    concurrency: Count = option(
        CONCURRENCY, "attempts in flight per model", "N", count,
        group="attempts", by_model=True, preset=True,
    )  # fmt: skip
    max_attempts: int = option(
        BATCH_ATTEMPTS, "attempts that may fail; 429s are not counted", "N", count,
        group="attempts", preset=True,
    )  # fmt: skip
    attempt_timeout: float = option(
        BATCH_TIMEOUT, "the longest that one attempt takes", "SECONDS", positive,
        group="attempts", preset=True,
    )  # fmt: skip
    deadline: float | None = option(
        None, "the longest that each row takes, waits included", "SECONDS", positive,
        group="attempts", usual="none",
    )  # fmt: skip
    requests_per_minute: Rate = option(
        None, "per model: a number, one with its period like `10/s` or `36000/h`, `none` for no "
        "limit, or `auto` to learn it; see `--config` for models that differ", "N", rate,
        group="limits", short=("--rpm",), usual="auto", by_model=True, preset=True,
    )  # fmt: skip
    tokens_per_minute: Rate = option(
        None, "the same for tokens, of the input and the output together", "N", rate,
        group="limits", short=("--tpm",), usual="auto", by_model=True, preset=True,
    )  # fmt: skip
    input_tokens_per_minute: Rate = option(
        None, "the same for those of the input alone", "N", rate,
        group="limits", usual="none", by_model=True, preset=True,
    )  # fmt: skip
    output_tokens_per_minute: Rate = option(
        None, "the same for those of the output alone", "N", rate,
        group="limits", usual="none", by_model=True, preset=True,
    )  # fmt: skip
    requests_per_day: Rate = option(
        None, "per model, in any 24 hours; the run pauses when it is used up", "N", positive,
        group="limits", usual="none", by_model=True, preset=True,
    )  # fmt: skip
    tokens_per_day: Rate = option(
        None, "the same for tokens", "N", positive,
        group="limits", usual="none", by_model=True, preset=True,
    )  # fmt: skip
    account: Mapping[str, float] | None = option(
        None, "limits over all models", "TABLE", group="limits", verbs=(), preset=True
    )
    stack: Mapping[str, Any] | None = option(
        None, "the layers, in place of the usual ones", "TABLE", group="limits", verbs=()
    )
    cached_weight: float | None = option(
        None, "what a token from the provider's cache counts, from 0 to 1", "N", weight,
        group="limits", usual="as in the usage", preset=True,
    )  # fmt: skip
    follow_headers: bool = option(
        True, "do not follow the limits that the server states", group="limits",
        name="ignore-headers", preset=True,
    )  # fmt: skip
    processes: int = option(
        1, "runs that use the limits at once: each keeps an equal part of those that are declared "
        "or stated; a learned one is shared by a law that does not depend on the number", "N",
        count, group="limits", preset=True,
    )  # fmt: skip
    shared: str | None = option(
        None, "a Redis that divides the limits among all runs that name it, by need, like "
        "`redis://host:6379/0`; needs the extra `[redis]`", "URL", redis_url, group="limits",
        usual="none", environment="INFE_SHARED", secret=True,
    )  # fmt: skip
    shared_name: str = option(
        "infe", "runs share the limits if this is the same, and the Redis", "NAME", shared_name,
        group="limits",
    )  # fmt: skip
    price_in: float | None = option(
        None, "dollars for a million tokens of input; without prices, those of the public list are "
        "used if the extra `[prices]` is installed", "DOLLARS", from_zero, group="cost",
        usual="the list's",
    )  # fmt: skip
    price_out: float | None = option(
        None, "the same for the output", "DOLLARS", from_zero, group="cost", usual="the list's"
    )
    price_cached: float | None = option(
        None, "the same for input from the provider's cache", "DOLLARS", from_zero, group="cost",
        usual="as `--price-in`",
    )  # fmt: skip
    max_cost: float | None = option(
        None, "dollars that all runs of the journal may spend together: then the run pauses",
        "DOLLARS", positive, group="cost", usual="none",
    )  # fmt: skip
    max_tokens: int | None = option(
        None, "the same for tokens, input and output together", "N", count, group="cost",
        usual="none",
    )  # fmt: skip
    count: Callable[[Any], float] = estimate_tokens

    @property
    def rates(self) -> dict[str, Rate]:
        """The limits of a rate, by name."""
        return {each.field: getattr(self, each.field) for each in RATES}

    @property
    def for_preset(self) -> dict[str, Any]:
        """The arguments of `presets.batch` among them."""
        return {each.field: getattr(self, each.field) for each in OPTIONS if each.preset}

    @property
    def trust_env(self) -> bool:
        """Whether to use the proxy that the environment names."""
        return self.proxy is None and not is_local(self.base_url)


OPTIONS = options_of(JobOptions)
"""The options of a job."""

RATES = tuple(each for each in OPTIONS if each.by_model and each.field != "concurrency")
"""The limits of a rate, in the order in which they are said."""


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


def price_for(options: JobOptions) -> Price | None:
    """Return the price of a call, or None if no price is known.

    Raises:
        ConfigurationError: a part of it is missing.
    """
    prompt, completion, cached = options.price_in, options.price_out, options.price_cached
    if prompt is not None and completion is not None:
        return per_million(prompt, completion, cached)
    if (prompt, completion, cached) != (None, None, None):
        raise ConfigurationError(
            "give --price-in and --price-out, in dollars for a million tokens; --price-cached "
            "alone may be left out"
        )
    if has_list() and not is_local(options.base_url):
        return listed(options.base_url)
    if options.max_cost is not None:
        raise ConfigurationError(
            "--max-cost needs prices: give --price-in and --price-out, in dollars for a million "
            "tokens, or install the public list, which is the extra [prices]"
        )
    return None


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
