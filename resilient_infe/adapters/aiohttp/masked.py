"""Keeps the API key out of what aiohttp makes of a failure.

An exception of aiohttp shows the request's headers, which hold the key, in its repr. And it shows
the reason, the headers and the address of the response, in which the server may quote the key. Some
of these exceptions are made by the response, when the caller asks for its JSON or its status. So
the response is changed, before it is handed over.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ...core.call import Call
from ..http.masking import KeyMask, links
from ..http.request import last_mask, mask_of


class ShownRequest(aiohttp.RequestInfo):
    """The request information of an exception; the headers are there, but not in its repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show the method and the URL."""
        return f"<RequestInfo {self.method} {self.url}>"


def mask_response(call: Call[Any], response: aiohttp.ClientResponse, start: bytes) -> bytes:
    """Mask the key in a response that failed; return what was read of its body, masked.

    Args:
        call: the call whose response it is.
        response: the response, which is changed.
        start: what was read of its body.
    """
    mask = mask_of(call)
    _set(response, "request_info", shown_request(response.request_info, None))
    if mask is None or 300 <= response.status < 400:  # the session goes where a redirect says
        return start
    failed = response.status >= 400
    if failed or "json" not in response.headers.get("content-type", ""):
        mask_head(response, mask)
    return mask.body(start) if failed else start


def mask_head(response: aiohttp.ClientResponse, mask: KeyMask) -> None:
    """Mask the key in the reason, the headers and the address of a response."""
    stated = list(response.headers.items())
    shown = mask.pairs(stated)
    if shown != stated:
        raw = [(name.encode(), each.encode("utf-8", "surrogateescape")) for name, each in shown]
        _set(response, "headers", CIMultiDictProxy(CIMultiDict(shown)))
        _set(response, "raw_headers", tuple(raw))
    if response.reason:
        response.reason = mask.text(response.reason)
    _set(response, "request_info", shown_request(response.request_info, mask))


def _set(response: Any, name: str, value: Any) -> None:
    """Set what a property of a response returns, which is a private attribute, and cached."""
    setattr(response, f"_{name}", value)
    response._cache.pop(name, None)  # noqa: SLF001


def shown_request(request: aiohttp.RequestInfo, mask: KeyMask | None) -> ShownRequest:
    """Return request information without the key; with a mask, the address is masked too."""
    url, method, headers, real_url = request
    if mask is not None and mask.text(str(url)) != str(url):
        url = real_url = URL(mask.text(str(url)))
    return tuple.__new__(ShownRequest, (url, method, headers, real_url))


def hide_key(error: BaseException, mask: KeyMask | None) -> None:
    """Mask the key in what an exception of aiohttp tells."""
    if mask is not None:
        mask.error(error)
    for each in links(error):
        info = getattr(each, "request_info", None)
        if not isinstance(each, aiohttp.ClientResponseError) or info is None:
            continue
        each.request_info = shown_request(info, mask)
        each.args = (each.request_info, *each.args[1:])
        if mask is not None and each.headers is not None:
            each.headers = CIMultiDict(mask.pairs(each.headers.items()))


@functools.cache
def class_of_copies(cls: Any) -> Any:
    """Return a subclass for copies of sessions of a class.

    Its ``__del__`` does not warn that the copy was never closed. And what it raises above its
    middlewares, after a redirect, does not quote the API key.
    """

    async def _request(self: Any, *args: Any, **kwargs: Any) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await cls._request(self, *args, **kwargs)
        except Exception as error:
            hide_key(error, last_mask())
            raise
        mask = last_mask()
        if mask is not None and 300 <= response.status < 400:
            mask_head(response, mask)
        return response

    own = {"__del__": lambda _: None, "_request": _request}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp discourages subclasses
        return type(cls.__name__, (cls,), own)
