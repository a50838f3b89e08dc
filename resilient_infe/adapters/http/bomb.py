"""When a compressed body unpacks to so much that it is taken for a decompression bomb.

A kilobyte of brotli, or a megabyte of gzip, can unpack to a gigabyte. A body of JSON or of events
unpacks to 5 to 20 times its size. So a body is a bomb if it unpacks to more than
`LARGEST_UNSUSPICIOUS` bytes and to more than `LARGEST_RATIO` times its size. Either bound alone
would refuse an honest body: a large download, or a short one that repeats itself.
"""

from __future__ import annotations

from ...core.verdict import Kind, Verdict

LARGEST_UNSUSPICIOUS = 32 * 1024 * 1024
"""Bytes to which any body may unpack."""

LARGEST_RATIO = 50
"""Unpacked bytes for each byte that came over the wire. The most that gzip can do is 1,030."""

BOMB = (
    f"the response unpacks to over {LARGEST_UNSUSPICIOUS // 2**20} MiB and over {LARGEST_RATIO} "
    f"times its size, like a decompression bomb: reading stopped"
)
"""The message of the error."""

ADVICE = "check what answers at this URL; the request is not sent again"


class DecompressionBomb(ValueError):
    """A body is a decompression bomb."""


def is_bomb(unpacked: int, packed: int) -> bool:
    """Whether a body that unpacks to a number of bytes, so far, is a bomb.

    Args:
        unpacked: bytes.
        packed: the bytes that came over the wire for them.
    """
    return unpacked > LARGEST_UNSUSPICIOUS and unpacked > LARGEST_RATIO * packed


def bomb_verdict(error: str) -> Verdict:
    """Return the verdict for a bomb. It is not tried again: the next one would be the same.

    Args:
        error: the name of the exception that is raised.
    """
    return Verdict(Kind.TRANSIENT, retryable=False, error=error, advice=ADVICE)
