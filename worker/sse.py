"""Decoder of server-sent events (WHATWG HTML, 9.2.6), as far as our providers use them.

Only the data of an event is returned: its type is repeated inside Anthropic's JSON, and no
provider resumes by ``id`` or ``retry``. Rules of this file:

1. A line ends at LF, CR or CRLF, and a CRLF may be cut in two by the network.
2. No byte is looked at twice: what is left of a line is kept in pieces and joined once.
3. An event whose data is empty is dropped. The standard would dispatch it; some gateways send
   it to keep the connection alive.
4. The standard drops an event that the end of file cuts before its blank line. Servers that
   forget the last blank line are common, so :meth:`SseDecoder.close` keeps such an event where
   it is a whole JSON object: no beginning of an object is one, so nothing cut is taken for whole.
"""

from __future__ import annotations

from worker.errors import AttemptFailed
from worker.frames import Decoder, OneFrame, check_size, is_json, parse

_BOM = b"\xef\xbb\xbf"


class SseDecoder:
    """Turns bytes into the data of each event."""

    __slots__ = ("_after_cr", "_data", "_fresh", "_line", "_size")

    def __init__(self) -> None:
        """Start before the first byte."""
        self._fresh = True
        self._after_cr = False
        #: Pieces of a line that has not ended.
        self._line: list[bytes] = []
        #: Data lines of the event that has not ended.
        self._data: list[bytes] = []
        #: Bytes in both.
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of every event that these bytes complete.

        AttemptFailed (too_large) where one event outgrows the frame limit.
        """
        if not data:
            return []
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        lines = data.split(b"\n")
        rest = lines.pop()
        frames: list[bytes] = []
        if lines:
            lines[0] = self._whole_line(lines[0])
            self._take(lines, frames)
        if rest:
            self._line.append(rest)
            self._size += len(rest)
        if self._size:
            check_size(self._size)
        return frames

    def close(self) -> list[bytes]:
        """Return the last event where only its end is missing and its data is a JSON object."""
        frames: list[bytes] = []
        self._take([self._whole_line(b""), b""], frames)
        return [frame for frame in frames if _is_object(frame)]

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Write every line end as LF; the LF of a CRLF that was cut is dropped."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _whole_line(self, end: bytes) -> bytes:
        """Join the line that ends here, without the byte order mark of the first one."""
        if self._line:
            self._size -= sum(map(len, self._line))
            self._line.append(end)
            end = b"".join(self._line)
            self._line.clear()
        if self._fresh:
            self._fresh = False
            end = end.removeprefix(_BOM)
        return end

    def _take(self, lines: list[bytes], frames: list[bytes]) -> None:
        """Read whole lines; add the data of each event that ends to ``frames``."""
        held = self._data
        for line in lines:
            if not line:
                if held:
                    frame = held[0] if len(held) == 1 else b"\n".join(held)
                    if frame:
                        frames.append(frame)
                    held.clear()
                    self._size = 0
            elif line.startswith(b"data:"):
                value = line[6:] if line.startswith(b" ", 5) else line[5:]
                held.append(value)
                self._size += len(value)
            elif line == b"data":
                held.append(b"")


def _is_object(frame: bytes) -> bool:
    try:
        return isinstance(parse(frame), dict)
    except AttemptFailed:
        return False


def decoder(content_type: str) -> Decoder:
    """Return the decoder for an OpenAI or Anthropic stream of this content type.

    A server that answers a streamed call with plain JSON has ignored the wish, or reports an
    error: either way the body is one frame.
    """
    return OneFrame() if is_json(content_type) else SseDecoder()
