"""The two fields of a task that could reach past the router: extra headers, and a native path."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

#: Native calls go nowhere else under the router's base URL.
NATIVE_PREFIXES: Final = ("/v1/", "/api/v3/")
#: Longest native path with its query, in characters; the longest documented has about 120.
PATH_LIMIT = 512
#: Most extra headers of a task. Callers have been seen to need about five.
HEADERS_LIMIT = 64
#: Longest extra headers together, in bytes on the wire: servers take 8 KiB to 32 KiB in all.
HEADERS_SIZE_LIMIT = 8192

#: Headers that a task must not set: credentials and routing are the worker's; others describe one
#: connection, not the request (RFC 9110, 7.6.1); and some make a proxy in front of the router
#: believe in another address, host, path or method than it was sent.
REFUSED_HEADERS: Final = frozenset({
    "authorization", "proxy-authorization", "proxy-authenticate", "cookie", "x-api-key",
    "api-key", "x-goog-api-key", "x-auth-token", "x-access-token", "x-amz-security-token",
    "ocp-apim-subscription-key", "vendor", "host", "connection", "keep-alive", "te", "trailer",
    "transfer-encoding", "upgrade", "proxy-connection", "content-length", "content-type",
    "content-encoding", "accept-encoding", "expect",
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-proto", "x-forwarded-server", "x-forwarded-uri", "x-real-ip", "true-client-ip",
    "x-host", "x-original-host", "x-original-uri", "x-original-url", "x-rewrite-url",
    "x-http-method", "x-http-method-override", "x-method-override",
})  # fmt: skip

_HEADER_NAME: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"
#: Printable ASCII without space at its ends, which HTTP would drop (RFC 9110, 5.5).
_HEADER_VALUE: Final = r"([\x21-\x7e]([\x20-\x7e]{0,4094}[\x21-\x7e])?)?"
#: Bytes that a header line has beside name and value: a colon, a space and a line break.
_HEADER_EXTRA = 4
#: What follows a path's first slash.
_PATH: Final = r"[A-Za-z0-9._~:/-]+(\?[A-Za-z0-9._~=&,:-]*)?"
#: Empty parts, `.` and `..`, in front of the query.
_BAD_PARTS: Final = r"^[^?]*/\.{0,2}(/|\?|$)"
#: Query names that carry a key: it would stand in records and logs.
_SECRET_QUERY = re.compile(
    r"[?&](x-)?(key|(api|access|auth|subscription)[_-]?key|((access|auth|id)[_-]?)?token|"
    r"(client[_-]?)?secret|password|sig|signature)=",
    re.IGNORECASE,
)


def _count_headers(headers: object) -> object:
    """Count before anything is looked at."""
    if isinstance(headers, dict) and len(headers) > HEADERS_LIMIT:
        message = f"must be at most {HEADERS_LIMIT} headers"
        raise ValueError(message)
    return headers


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(_HEADER_NAME, name):
            message = "a header name has characters that no header name has"
            raise ValueError(message)
        if name.lower().replace("_", "-") in REFUSED_HEADERS:
            message = f"the header {name.lower()} is not a task's to set"
            raise ValueError(message)
        if not re.fullmatch(_HEADER_VALUE, value):
            message = (
                f"the value of {name.lower()} must be printable ASCII without line breaks, "
                "with no space at its ends, and of at most 4096 characters"
            )
            raise ValueError(message)
    if len({name.lower() for name in headers}) < len(headers):
        message = "a header is given twice"
        raise ValueError(message)
    if sum(len(n) + len(v) + _HEADER_EXTRA for n, v in headers.items()) > HEADERS_SIZE_LIMIT:
        message = f"must be at most {HEADERS_SIZE_LIMIT} bytes together"
        raise ValueError(message)
    return headers


_HEADERS_SCHEMA: Final[dict[str, Any]] = {
    "maxProperties": HEADERS_LIMIT,
    "propertyNames": {"pattern": f"^{_HEADER_NAME}$", "not": {"enum": sorted(REFUSED_HEADERS)}},
    "additionalProperties": {"type": "string", "pattern": f"^{_HEADER_VALUE}$"},
}

#: Extra headers for the router. Names are compared without case, and ``_`` as ``-``.
Headers = Annotated[
    dict[str, str],
    BeforeValidator(_count_headers),
    AfterValidator(_check_headers),
    Field(json_schema_extra=_HEADERS_SCHEMA),
]


def _check_path(path: str) -> str:
    if not path.startswith(NATIVE_PREFIXES):
        message = f"must begin with {' or '.join(NATIVE_PREFIXES)}"
        raise ValueError(message)
    if not re.fullmatch(f"/{_PATH}", path):
        message = "must be a plain path, without escapes, `@` or other special characters"
        raise ValueError(message)
    if re.search(_BAD_PARTS, path):
        message = "must not have empty, `.` or `..` parts"
        raise ValueError(message)
    if _SECRET_QUERY.search(path):
        message = "must not carry a key: the worker adds its own"
        raise ValueError(message)
    return path


_PATH_SCHEMA: Final[dict[str, Any]] = {
    "pattern": f"^({'|'.join(NATIVE_PREFIXES)}){_PATH}$",
    "not": {"pattern": _BAD_PARTS},
}

#: Path of a native call under the router's base URL, with its query.
NativePath = Annotated[
    str,
    Field(max_length=PATH_LIMIT, json_schema_extra=_PATH_SCHEMA),
    AfterValidator(_check_path),
]
