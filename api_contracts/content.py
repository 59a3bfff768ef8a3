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

#: Largest picture, in bytes after base64. What the large providers take for one image.
IMAGE_LIMIT = 20 * 1024 * 1024
#: Longest image URL, in characters; longer ones are refused by providers or proxies.
URL_LIMIT = 8192
#: Bytes of the head that tell every type; WebP needs the most, 12.
_MAGIC_LENGTH = 12
#: As many base64 characters as hold the magic bytes.
_MAGIC_CHARACTERS = 16
#: IPv6 addresses that are given out; the rest is local, or wraps an IPv4 address (RFC 4291).
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")

_HTTPS = re.compile(r"https://(?P<authority>[^/?#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(:[0-9]{0,5})?")
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,", re.IGNORECASE)
#: A host name of two labels or more. The last one has a letter first: whatever ends in a number
#: is an IPv4 address to browsers and to many resolvers.
_HOST_NAME = re.compile(r"([a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62}")
#: Endings that mean the inside of some network (RFC 6761, 6762 appendix G, 8375; Kubernetes).
_LOCAL_NAMES = (
    ".localhost", ".local", ".internal", ".intranet", ".private", ".corp", ".home", ".lan",
    ".home.arpa", ".localdomain", ".svc",
)  # fmt: skip


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
        message = f"the image is larger than {limit} bytes"
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
    with Path(image).open("rb") as file:
        return data_url(file.read(limit + 1), limit)


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
    https = _HTTPS.match(url)
    if https is None:
        message = "an image URL must be https or a data URL"
        raise ValueError(message)
    if "@" in https["authority"]:
        message = "an image URL must not carry a user or a password"
        raise ValueError(message)
    if not _public(https["authority"].lower()):
        message = "an image URL must name a public host"
        raise ValueError(message)


def _check_data_url(url: str, limit: int) -> None:
    head = _DATA_URL.match(url)
    if head is None:
        message = "a data URL must read data:image/TYPE;base64,…"
        raise ValueError(message)
    if (len(url) - head.end()) * 3 // 4 - url[-2:].count("=") > limit:
        message = f"the image is larger than {limit} bytes"
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


def _public(authority: str) -> bool:
    """Tell whether a lower-case ``host:port`` may be public, without asking DNS.

    Every spelling of an IPv4 address that resolvers take (``2130706433``, ``0x7f.1``) is read as
    they read it, by ``inet_aton``.
    """
    host = _AUTHORITY.fullmatch(authority)
    if host is None:
        return False
    if host["ipv6"]:
        return _public_ipv6(host["ipv6"])
    name = host["name"].removesuffix(".")
    try:
        address = ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        return bool(_HOST_NAME.fullmatch(name)) and not f".{name}".endswith(_LOCAL_NAMES)
    return _public_ipv4(address)


def _public_ipv4(address: ipaddress.IPv4Address) -> bool:
    return address.is_global and not address.is_multicast


def _public_ipv6(host: str) -> bool:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return _public_ipv4(inner)
    return address.is_global and address in _GLOBAL_IPV6
