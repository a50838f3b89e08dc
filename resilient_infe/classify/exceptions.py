"""What an exception of a transport means: by the names of its classes and of its causes.

Because only names are compared, no client library is imported. Nothing here raises.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from ..core.verdict import Kind, Verdict
from ..errors import InfeError

LONGEST_CHAIN = 16
"""Links of an exception's chain of causes that are followed, because a chain can be a cycle."""

MOST_LEAVES = 1_000
"""Leaves of an exception group that are looked at."""


def classify_exception(error: BaseException) -> Verdict:
    """Return what an exception of a transport means, from its classes and its causes.

    A group means what its gravest leaf means, in the order INVALID, UNKNOWN, TIMEOUT, TRANSIENT.
    It was never sent only if none of its leaves was sent. An error of our own transport has its own
    advice, which may name a proxy.
    """
    if isinstance(error, BaseExceptionGroup):
        verdicts = [_of_names(_names(leaf), type(error).__name__) for leaf in _leaves(error)]
        gravest = min(verdicts, key=_gravity)
        found = replace(gravest, sent=any(verdict.sent for verdict in verdicts))
    elif _cause_of(error) is None:
        found = _of_classes(type(error).__mro__)
    else:
        found = _of_names(_names(error), type(error).__name__)
    if isinstance(error, InfeError) and error.advice not in (None, found.advice):
        return replace(found, advice=error.advice)
    return found


@functools.lru_cache(maxsize=256)
def _of_classes(mro: tuple[type, ...]) -> Verdict:
    """Return what an exception without a cause means: only its classes decide."""
    return _of_names({cls.__name__ for cls in mro}, mro[0].__name__)


def _gravity(verdict: Verdict) -> int:
    return (Kind.INVALID, Kind.UNKNOWN, Kind.TIMEOUT, Kind.TRANSIENT).index(verdict.kind)


def _of_names(names: set[str], name: str) -> Verdict:
    if names & _FATAL:
        advice = "the certificate or URL is wrong: check the base URL (https or http?) and the CA"
        return Verdict(Kind.INVALID, error=name, advice=advice, sent=False)
    if names & _REFUSED_BEFORE_SENDING:
        return Verdict(Kind.INVALID, error=name, sent=False)
    if names & _NEVER_SENT:
        advice = "the server cannot be reached: check the base URL and that it is up"
        return Verdict(Kind.TRANSIENT, retryable=True, error=name, advice=advice, sent=False)
    if names & _TIMEOUTS:
        advice = "the attempt took too long; another attempt may succeed"
        return Verdict(Kind.TIMEOUT, retryable=True, error=name, advice=advice)
    if names & _BROKEN:
        advice = "the connection broke; another attempt may succeed"
        return Verdict(Kind.TRANSIENT, retryable=True, error=name, advice=advice)
    return Verdict(Kind.UNKNOWN, error=name)


_FATAL = frozenset(
    ("SSLCertVerificationError", "ClientConnectorCertificateError", "CertificateError",
     "InvalidURL", "InvalidUrlClientError", "UnsupportedProtocol", "NonHttpUrlClientError",
     "TooManyRedirects", "ClientConnectorSSLError")
)  # fmt: skip
_REFUSED_BEFORE_SENDING = frozenset(("InvalidRequestError", "ConfigurationError"))
_NEVER_SENT = frozenset(
    ("ConnectionRefusedError", "gaierror", "ClientConnectorError", "ClientConnectorDNSError",
     "ConnectError", "ConnectTimeout", "ConnectionTimeoutError", "PoolTimeout", "NeverSentError")
)  # fmt: skip
_TIMEOUTS = frozenset(("TimeoutError", "TimeoutException", "APITimeoutError"))
_BROKEN = frozenset(
    ("ConnectionError", "ClientConnectionError", "ClientPayloadError", "NetworkError",
     "ProtocolError", "RemoteProtocolError", "APIConnectionError", "IncompleteRead",
     "IncompleteReadError", "TransportError", "BrokenResourceError", "ClosedResourceError",
     "EndOfStream", "HttpProcessingError", "SSLError", "MalformedResponseError",
     "StreamBroken", "ContentTypeError")
)  # fmt: skip


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the leaves of an exception group, or the exception itself."""
    waiting: list[BaseException] = [error]
    leaves: list[BaseException] = []
    while waiting and len(leaves) < MOST_LEAVES:
        current = waiting.pop()
        if isinstance(current, BaseExceptionGroup) and current.exceptions:
            waiting.extend(current.exceptions)
        else:
            leaves.append(current)
    return leaves


def _names(error: BaseException) -> set[str]:
    """Return the class names of an exception and its causes, including groups among them.

    Only causes are followed, which a ``raise ... from`` sets. The implicit context is not: the
    exception that was being handled at the time need not be the reason.
    """
    names: set[str] = set()
    link: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if link is None:
            break
        for leaf in _leaves(link):
            names.update(cls.__name__ for cls in type(leaf).__mro__)
        link = _cause_of(link)
    return names


def _cause_of(error: BaseException) -> BaseException | None:
    try:
        return error.__cause__
    except Exception:  # a foreign object's properties may raise anything
        return None
