"""What images, audio and documents in a request cost, in characters of text that cost the same.

Media are sent as base64, which is a million characters for an image of 1,000 tokens. A text counts
as media if it is long, looks like base64, and does not stand in a field whose text the model reads.
The kind of media is looked for in the MIME type, in the name of the field, and in the first bytes.

Sources: OpenAI's "Images and vision" (765 tokens for 1024 x 1024, 85 at low detail) and "Audio" (10
tokens a second of speech); Anthropic's "Vision" (width x height / 750, 1,600 at most) and "PDF
support" (1,500 to 3,000 tokens a page).
"""

from __future__ import annotations

import re

IMAGE_CHARACTERS = 4_000
"""For an image: 1,000 tokens, between OpenAI's 765 and Anthropic's 1,600."""

LOW_DETAIL_CHARACTERS = 340
"""For an image that the model is to look at in low detail: 85 tokens."""

AUDIO_SHARE = 4 / 3_000
"""For each character of audio. Wave files of speech have 4,300 characters a token, MP3 2,100."""

DOCUMENT_SHARE = 4 / 250
"""For each character of a document, whose pages have 100 to 500 kB and about 2,000 tokens."""

SHORTEST_MEDIA = 1_000
"""Characters. A shorter text is counted as text: it costs no more than an image."""

CARRIERS = frozenset(
    ("image_url", "input_audio", "audio", "video_url", "source", "inline_data", "inlineData")
)
"""Fields that hold an object with media; what stands in it is judged by the name of the field."""

_TEXTS = frozenset(
    ("messages", "prompt", "input", "system", "instructions", "content", "text", "arguments",
     "output", "thinking", "reasoning", "reasoning_content", "refusal", "description", "query",
     "code", "contents", "parts")
)  # fmt: skip
"""Fields whose text the model reads as it is, also if it looks like base64."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+[;,]|;base64,)", re.IGNORECASE)

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{60,}\s*)+[A-Za-z0-9+/_-]*={0,2}\s*")
"""Base64, in lines of at least 60 characters if it has lines."""

_KIND = re.compile(r"(?P<audio>audio)|(?P<video>video)|(?P<document>pdf|file|document| JVBERi)")
"""The kind of media, in the field's name or MIME type and the start of the data."""

_URLS = ("http://", "https://", "gs://")


def label_of(name: object, item: dict[object, object]) -> object:
    """Return what to judge the media in an object by, or None for the names of its own fields.

    Args:
        name: the field that the object stands in.
        item: the object.
    """
    if item.get("detail") == "low":
        return "low"
    if name not in CARRIERS and "data" not in item:
        return None
    for field in ("media_type", "mime_type", "mimeType"):
        stated = item.get(field)
        if isinstance(stated, str):
            return stated
    return name if name in CARRIERS else item.get("type")


def media_characters(label: object, text: str) -> float | None:
    """Return the characters that media cost; None if the text is to be counted as text.

    Args:
        label: the name of the field that it stands in, or the result of `label_of`.
        text: the text.
    """
    where = label if isinstance(label, str) else ""
    is_data_url = _DATA_URL.match(text) is not None
    if len(text) < SHORTEST_MEDIA:
        if not (text.startswith(_URLS) and (where in CARRIERS or where == "low")):
            return None
    elif not is_data_url and (
        where in _TEXTS or where.startswith("text") or not _BASE64.fullmatch(text[:1_024])
    ):
        return None
    if where == "low":
        return LOW_DETAIL_CHARACTERS
    kind = _KIND.search(text[:32] if is_data_url else f"{where} {text[:6]}")
    if kind is None:
        return IMAGE_CHARACTERS
    if kind["audio"]:
        return len(text) * AUDIO_SHARE
    return max(IMAGE_CHARACTERS, len(text) * (AUDIO_SHARE if kind["video"] else DOCUMENT_SHARE))
