"""Which response headers state a rate limit or a request id, decided by their names alone.

Servers use many names, and one grammar covers them. A name that contains
``ratelimit`` (or ``rate-limit``) is split into words. One of them is ``limit``, ``remaining`` or
``reset``. The others name what is counted and the period: ``x-ratelimit-limit-requests``,
``x-ratelimit-remaining-tokens-minute``, ``VENDOR-ratelimit-input-tokens-reset``. A name with an
unknown word is left alone.

A server sends the same names with every response, so the result is cached by them.

Sources: OpenAI's "Rate limits in headers"; Anthropic's and Cerebras' "Rate limits";
draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from ..core.verdict import MINUTE, Dimension

REQUEST_IDS = (
    "x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-amzn-request-id",
    "x-amz-request-id", "x-ms-request-id", "x-ms-client-request-id", "x-goog-request-id",
    "nvcf-reqid", "x-azure-ref", "x-litellm-call-id", "x-kong-request-id", "x-correlation-id",
    "x-trace-id", "x-requestid", "cf-ray",
)  # fmt: skip
"""Headers with the id of the request, the one closest to the model first."""

LONGEST_LIST = 8 * 1024
"""Characters of all names together; the reading of a longer list is not cached."""

_NAME = re.compile(r"(.*?)rate-?limit((?:by[a-z]+)?)((?:[-_][a-z0-9]+)+)", re.ASCII)

_FIELDS = frozenset(("limit", "remaining", "reset"))

_COUNTED: dict[str, tuple[Dimension, str]] = {
    "requests": ("requests", ""),
    "request": ("requests", ""),
    "req": ("requests", ""),
    "tokens": ("tokens", ""),
    "token": ("tokens", ""),
    "bysize": ("tokens", ""),
    "input": ("input_tokens", "input"),
    "prompt": ("input_tokens", "input"),
    "output": ("output_tokens", "output"),
    "generated": ("output_tokens", "output"),
}
"""Words for what is counted: the dimension, and whether it is a part of the tokens."""

_SHORT = {
    "rpm": ("requests", "minute"), "rph": ("requests", "hour"), "rpd": ("requests", "day"),
    "tpm": ("tokens", "minute"), "tph": ("tokens", "hour"), "tpd": ("tokens", "day"),
    "itpm": ("input", "tokens", "minute"), "otpm": ("output", "tokens", "minute"),
    "per": (),
}  # fmt: skip
"""Words that stand for several others, or for none."""

_ID = re.compile(r"(.+-)?(request|req|trace|correlation|log)-?id", re.ASCII)

_WAIT = re.compile(r"(?!retry-after(-ms)?$)(.+[-_])?retry-after(-ms|-seconds)?", re.ASCII)

_PERIODS = {
    "second": 1.0,
    "minute": MINUTE,
    "min": MINUTE,
    "hour": 60 * MINUTE,
    "hourly": 60 * MINUTE,
    "day": 1440 * MINUTE,
    "daily": 1440 * MINUTE,
    "month": 30 * 1440 * MINUTE,
}
"""Words for the period of a limit, in seconds."""


class Group(NamedTuple):
    """The headers that state one limit together.

    Attributes:
        dimension: what it counts.
        usual: whether its name says that, and nothing more.
        counts: whether its name says so; else requests are assumed.
        window: the period in its name, in seconds, or None.
        limit: the name of the header with the limit, or None; so for `remaining` and `reset`.
    """

    dimension: Dimension
    usual: bool
    counts: bool
    window: float | None
    limit: str | None
    remaining: str | None
    reset: str | None


class Names(NamedTuple):
    """What the names of a response's headers promise.

    Attributes:
        groups: the rate limits.
        structured: whether a header of the IETF draft is among them.
        ids: the headers that hold a request id, the best first: those of `REQUEST_IDS`, then any
            with such a name.
        waits: the headers that hold a hint, other than ``retry-after`` and ``retry-after-ms``.
    """

    groups: tuple[Group, ...]
    structured: bool
    ids: tuple[str, ...]
    waits: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def read_names(names: str) -> Names:
    """Return what the names promise.

    Args:
        names: all of them, in lower case, each in a line of its own.
    """
    present = names.split("\n")
    ids = [name for name in REQUEST_IDS if name in present]
    ids += [name for name in present if name not in ids and _ID.fullmatch(name)]
    waits = tuple(filter(_WAIT.fullmatch, present))
    structured = "ratelimit" in present or "ratelimit-policy" in present
    found: dict[tuple[str, Dimension, bool, float | None], dict[str, str]] = {}
    for name in present:
        if "ratelimit" in name or "rate-limit" in name:
            _sort(name, found)
    return Names(tuple(_groups(found)), structured, tuple(ids), waits)


def _sort(
    name: str, found: dict[tuple[str, Dimension, bool, float | None], dict[str, str]]
) -> None:
    """Put a name to those of the same limit, if every word of it is known."""
    match = _NAME.fullmatch(name)
    if match is None:
        return
    split = [word for word in re.split("[-_]", match[3]) if word]
    words = [each for word in split for each in _SHORT.get(word, (word,))]
    fields = [word for word in words if word in _FIELDS]
    if len(fields) != 1:
        return
    dimension: Dimension = "requests"
    counts, part, window = False, False, None
    for word in [match[2], *words] if match[2] else words:
        if word in _COUNTED:
            counted, narrower = _COUNTED[word]
            dimension = dimension if part and not narrower else counted
            counts, part = True, part or bool(narrower)
        elif word in _PERIODS and window is None:
            window = _PERIODS[word]
        elif word not in _FIELDS:
            return
    found.setdefault((match[1], dimension, counts, window), {})[fields[0]] = name


def _groups(
    found: dict[tuple[str, Dimension, bool, float | None], dict[str, str]],
) -> list[Group]:
    return [
        Group(
            dimension,
            counts and window is None,
            counts,
            window,
            names.get("limit"),
            names.get("remaining"),
            names.get("reset"),
        )
        for (_, dimension, counts, window), names in found.items()
    ]
