"""Images in messages: a data URI if the bytes are a raster image, otherwise a link or a description."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ._text import size_of

_TYPES: Final = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
"""The first bytes of images, with their types; the page never trusts the type in a message."""

_LARGEST: Final = 8_000_000
"""The largest image that a page holds, in characters of base64."""

_URL_SAFE: Final = str.maketrans("-_", "+/")
"""The two characters in which the URL-safe base64 of pydantic and Gemini differs from the plain one."""

_HOLDERS: Final = ("source", "image", "image_url", "inlineData", "inline_data", "fileData", "file_data")
_MEDIA: Final = ("media_type", "mediaType", "mime_type", "mimeType", "format")
_DATA: Final = ("data", "bytes", "base64", "image_url", "url", "image", "fileUri", "file_uri", "result")


class Image(NamedTuple):
    """An image.

    Attributes:
        source: A data URI; empty: the page cannot show the image.
        link: The address of a remote image, which the page does not fetch; empty: the message holds the image.
        note: A description.
    """

    source: str = ""
    link: str = ""
    note: str = "image"
    kind: str = "image"


def image_in(part: Mapping[str, Any]) -> Image | None:
    """Return the image in a part of a message, in any dialect; None if the part is not an image."""
    holders = list(_holders(part))
    media = next((str(holder[name]) for holder in holders for name in _MEDIA if name in holder), "")
    kind = str(part.get("type", part.get("kind", "")))
    if "image" not in kind and "screenshot" not in kind and not media.startswith("image/") and "image" not in part:
        return None
    data = next(
        (holder[name] for holder in holders for name in _DATA if isinstance(holder.get(name), str | bytes)), None
    )
    if data is None:
        return None
    if isinstance(data, str) and data.startswith(("http://", "https://")):
        return Image(link=data, note="remote image")
    return _shown(data, media)


def _holders(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield part
    for name in _HOLDERS:
        inner = part.get(name)
        if isinstance(inner, dict):
            yield from _holders(inner)


def _shown(data: str | bytes, media: str) -> Image:
    if isinstance(data, str):
        data = data.partition(",")[2] if data.startswith("data:") else data
        if len(data) > _LARGEST:
            return Image(note=f"image of {size_of(len(data) * 3 // 4)}, too large to show")
        try:
            found = base64.b64decode("".join(data.split()).translate(_URL_SAFE), validate=True)
        except (binascii.Error, ValueError):
            return Image(note="image that cannot be decoded")
    elif len(data) > _LARGEST * 3 // 4:
        return Image(note=f"image of {size_of(len(data))}, too large to show")
    else:
        found = data
    kind = next((kind for start, kind in _TYPES if found.startswith(start)), "")
    if found[:4] == b"RIFF" and found[8:12] == b"WEBP":
        kind = "webp"
    if not kind:
        return Image(note=f"{media or 'image'} of {size_of(len(found))}, which is not PNG, JPEG, GIF or WebP")
    return Image(
        source=f"data:image/{kind};base64,{base64.b64encode(found).decode()}", note=f"{kind}, {size_of(len(found))}"
    )
