"""Decoder of one JSON array that arrives piece by piece, as Gemini streams without ``alt=sse``.

    [{ … }
    ,
    { … }
    ]

Only braces and strings are followed, so that a ``}`` inside a string ends nothing; whether an
element is JSON shows when its frame is read. Rules of this file:

1. A piece is searched by regular expressions that jump over whole strings. A string that the
   network has cut is searched again from its start within the same piece, never in the next:
   each byte is looked at twice at most.
2. Elements are objects; anything else between them than commas and white space is malformed.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from worker.frames import check_size, raise_malformed

#: From outside a string: over everything but braces, with whole strings, to a brace or to the
#: start of a string that does not end here. Possessive, so that nothing is tried twice.
_TO_BRACE = re.compile(rb'[^"{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}]*+)*+', re.DOTALL)
#: From inside a string: to its end, to the end of the piece, or to a backslash that ends the piece.
_TO_QUOTE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")


class _Place(Enum):
    """Where in the array the next byte belongs."""

    BEFORE = auto()
    FIRST = auto()
    NEXT = auto()
    ELEMENT = auto()
    AFTER = auto()
    END = auto()


#: What each punctuation mark between elements leads to. A byte that is not here is malformed.
_STEPS = {
    (_Place.BEFORE, b"["): _Place.FIRST,
    (_Place.FIRST, b"{"): _Place.ELEMENT,
    (_Place.FIRST, b"]"): _Place.END,
    (_Place.NEXT, b"{"): _Place.ELEMENT,
    (_Place.AFTER, b","): _Place.NEXT,
    (_Place.AFTER, b"]"): _Place.END,
}


class JsonArrayDecoder:
    """Turns the bytes of one array into the texts of its elements."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_pieces", "_place", "_size")

    def __init__(self) -> None:
        """Start before the first byte."""
        self._place = _Place.BEFORE
        #: Open braces of the element.
        self._depth = 0
        self._in_string = False
        #: Whether the last byte was a backslash inside a string.
        self._escaped = False
        #: What has come of the element.
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return every element that these bytes complete.

        AttemptFailed: malformed where they are no array of objects, too_large where one element
        outgrows the frame limit.
        """
        frames: list[bytes] = []
        at = 0
        while at < len(data):
            if self._place is not _Place.ELEMENT:
                at = self._between(data, at)
                continue
            end = self._element_end(data, at)
            self._pieces.append(data[at:end])
            self._size += end - at
            check_size(self._size)
            if not self._depth:
                frames.append(b"".join(self._pieces))
                self._pieces.clear()
                self._size = 0
                self._place = _Place.AFTER
            at = end
        return frames

    def close(self) -> list[bytes]:
        """Return nothing: an element ends at its brace, and one that has not is cut."""
        return []

    def _between(self, data: bytes, at: int) -> int:
        """Take one mark between elements; return where to go on. An element keeps its brace."""
        at = _end(_SPACE, data, at)
        if at == len(data):
            return at
        step = _STEPS.get((self._place, data[at : at + 1]))
        if step is None:
            raise_malformed("the answer is not the JSON array of objects that it should be")
        self._place = step
        return at if step is _Place.ELEMENT else at + 1

    def _element_end(self, data: bytes, at: int) -> int:
        """Return where the element ends, or where the data does; keep count of what is open."""
        while at < len(data):
            if self._in_string:
                at = self._string_end(data, at)
                continue
            at = _end(_TO_BRACE, data, at)
            mark = data[at : at + 1]
            at += len(mark)
            if mark == b'"':
                self._in_string = True
            elif mark == b"{":
                self._depth += 1
            elif mark == b"}":
                self._depth -= 1
                if not self._depth:
                    return at
        return at

    def _string_end(self, data: bytes, at: int) -> int:
        """Return where the string ends, after its quote, or where the data does."""
        if self._escaped:
            self._escaped = False
            at += 1
        at = _end(_TO_QUOTE, data, at)
        mark = data[at : at + 1]
        if mark == b'"':
            self._in_string = False
        elif mark:
            self._escaped = True
        return at + len(mark)


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Return where a pattern that fits everywhere, if only the empty text, ends."""
    found = pattern.match(data, at)
    return found.end() if found else at
