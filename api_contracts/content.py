"""Images in a request: which are taken, how they are written, what is refused.

An image is an ``https`` URL that the provider fetches, or a ``data:`` URL. Workers never fetch
a URL themselves; private addresses are refused all the same, since a provider inside the same
network might.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

#: Largest picture, in bytes after base64. What the large providers take for one image.
IMAGE_LIMIT = 20 * 1024 * 1024
#: Longest image URL, in characters; longer ones are refused by providers or proxies.
URL_LIMIT = 8192
#: Bytes of the head that tell every type; WebP needs the most, 12.
_MAGIC_LENGTH = 12
#: As many base64 characters as hold the magic bytes.
_MAGIC_CHARACTERS = 16

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain")


def image_type(head: bytes) -> str | None:
    """Return the MIME type that the first 12 bytes tell, or None where it is no image we take."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:_MAGIC_LENGTH] == b"WEBP":
        return "image/webp"
    return None


def data_url(image: bytes, limit: int = IMAGE_LIMIT) -> str:
    """Write an image's bytes as a data URL; ValueError where they are none or too many."""
    if len(image) > limit:
        message = f"the image has {len(image)} bytes; at most {limit} are taken"
        raise ValueError(message)
    mime = image_type(image[:_MAGIC_LENGTH])
    if mime is None:
        message = "the bytes are no PNG, JPEG, WebP or GIF image"
        raise ValueError(message)
    return f"data:{mime};base64,{base64.b64encode(image).decode('ascii')}"


def image_url(image: str | bytes | Path, limit: int = IMAGE_LIMIT) -> str:
    """Return the URL that stands for an image given as URL, data URL, bytes or local path.

    A string is a URL where it has a scheme, else a path. ValueError says what is wrong with it,
    OSError that a file cannot be read.
    """
    if isinstance(image, bytes):
        return data_url(image, limit)
    if isinstance(image, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", image):
        check_image_url(image, limit)
        return image
    path = Path(image)
    if path.stat().st_size > limit:
        message = f"the image has {path.stat().st_size} bytes; at most {limit} are taken"
        raise ValueError(message)
    return data_url(path.read_bytes(), limit)


def check_image_url(url: str, limit: int = IMAGE_LIMIT) -> None:
    """Raise ValueError unless the URL is a public ``https`` one or a data URL with an image."""
    if url[:5].lower() == "data:":
        _check_data_url(url, limit)
        return
    if len(url) > URL_LIMIT:
        message = f"the URL is longer than {URL_LIMIT} characters"
        raise ValueError(message)
    if not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        message = "the URL has characters that no URL has"
        raise ValueError(message)
    parts = urlsplit(url)
    if parts.scheme != "https":
        message = "an image URL must be https or a data URL"
        raise ValueError(message)
    if parts.username is not None or parts.password is not None:
        message = "an image URL must not carry a user or a password"
        raise ValueError(message)
    if not _public(parts.hostname or ""):
        message = "an image URL must name a public host"
        raise ValueError(message)


def _check_data_url(url: str, limit: int) -> None:
    head = _DATA_URL.match(url)
    if head is None:
        message = "a data URL must read data:image/TYPE;base64,…"
        raise ValueError(message)
    size = (len(url) - head.end()) * 3 // 4
    if size > limit + 2:
        message = f"the image has about {size} bytes; at most {limit} are taken"
        raise ValueError(message)
    start = url[head.end() : head.end() + _MAGIC_CHARACTERS]
    try:
        binascii.a2b_base64(url[head.end() :].encode("ascii"), strict_mode=True)
        mime = image_type(base64.b64decode(start))
    except (binascii.Error, UnicodeEncodeError):
        message = "the data URL is not base64"
        raise ValueError(message) from None
    if mime is None:
        message = "the data URL holds no PNG, JPEG, WebP or GIF image"
        raise ValueError(message)


def _public(host: str) -> bool:
    """Tell whether a host name may be public, without asking DNS.

    Every spelling of an IPv4 address that resolvers take (``2130706433``, ``0x7f.1``) is read as
    they read it, by ``inet_aton``.
    """
    host = host.rstrip(".")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return "." in host and not host.endswith(tuple(f".{name}" for name in _LOCAL_NAMES))
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return address.is_global and not address.is_multicast
