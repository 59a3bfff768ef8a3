"""What all decoders of a stream share: their shape, their bound, and the reading of one frame.

A decoder turns bytes, cut anywhere by the network, into frames; a frame is one JSON text. A fold
(``worker.protocols``) then reads the frames. Neither does any I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import msgspec

from api_contracts.errors import ErrorCode
from worker.errors import AttemptFailed, Failure

#: Largest frame, in bytes: a whole 20 MiB picture in base64, as image models send it.
FRAME_LIMIT = 32 * 1024 * 1024

#: Half of a character outside the basic plane, as JSON escapes it. A server that cuts text by
#: UTF-16 units puts the two halves into two chunks.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_decode = msgspec.json.Decoder().decode


class Decoder(Protocol):
    """Cuts a stream into frames, wherever the network has cut it."""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Return the JSON texts that these bytes complete; none means "need more".

        Comments, event names and blank lines are dropped. OpenAI's ``[DONE]`` is a frame too.
        AttemptFailed: malformed where the bytes are not what the content type promises,
        too_large where one frame outgrows :data:`FRAME_LIMIT`.
        """

    def close(self) -> Sequence[bytes]:
        """End of file: return what was whole and only lacked its final blank line."""


class OneFrame:
    """Decoder of a stream that is none: the answer comes as one JSON text after all."""

    def __init__(self) -> None:
        """Start empty."""
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Keep the bytes; nothing is whole before the end of file."""
        self._pieces.append(data)
        self._size += len(data)
        check_size(self._size)
        return []

    def close(self) -> list[bytes]:
        """Return the body, unless it is blank."""
        body = b"".join(self._pieces).strip()
        return [body] if body else []


def check_size(size: int) -> None:
    """Raise AttemptFailed (too_large) where one frame has outgrown :data:`FRAME_LIMIT`."""
    if size > FRAME_LIMIT:
        message = f"one frame of the answer has over {FRAME_LIMIT} bytes"
        raise AttemptFailed(Failure(ErrorCode.TOO_LARGE, message))


def raise_malformed(message: str) -> NoReturn:
    """Raise AttemptFailed for an answer that is not what the protocol promises."""
    raise AttemptFailed(Failure(ErrorCode.MALFORMED, message))


def is_json(content_type: str) -> bool:
    """Tell whether a content type names JSON rather than a stream of events."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def parse(text: bytes) -> Any:
    """Read one JSON text; AttemptFailed (malformed) where it is none."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return mended(_with_halves(text))


def parse_piece(frame: bytes) -> Any:
    """Read a frame of a stream; AttemptFailed (malformed) where it is no JSON.

    Half a character is let through, since the other half may be in the next frame: whoever puts
    the pieces together calls :func:`mended` on the whole.
    """
    try:
        return _decode(frame)
    except (ValueError, RecursionError):
        return _with_halves(frame)


def _with_halves(text: bytes) -> Any:
    """Read what the strict reader refused, if that may be for half a character."""
    if _SURROGATE.search(text) is None:
        raise_malformed(f"{len(text)} bytes of the answer are no JSON")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise_malformed(f"{len(text)} bytes of the answer are no JSON")


def _refuse_constant(name: str) -> None:
    message = f"{name} is no JSON"
    raise ValueError(message)


def mended(response: Any) -> Any:
    """Return an answer in which halves of characters are joined.

    A half whose other half never came becomes U+FFFD. Answers without any are returned as they
    are, at the cost of one encoding (about 1 µs a KiB).
    """
    try:
        msgspec.json.encode(response)
    except UnicodeEncodeError:
        text = json.dumps(response, ensure_ascii=False)
        return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    return response
