"""The mark in each chunk and each answer: which call it belongs to, and when it was sent.

The upstream writes it where the model's words stand, which is what changes from chunk to chunk, so
that it passes through any worker, in whatever JSON it is wrapped; the subscriber reads it. Its
width is fixed, since both do this for each chunk.
"""

from typing import Final, NamedTuple

#: Begins a mark; no other text of the upstream has it.
SIGN: Final = b"@@"
_NUMBER: Final = 6
_SEQ: Final = 6
_TIME: Final = 20
#: Bytes of a mark.
LENGTH: Final = len(SIGN) + _NUMBER + _SEQ + _TIME
_SEQ_AT: Final = len(SIGN) + _NUMBER
_TIME_AT: Final = _SEQ_AT + _SEQ


class Mark(NamedTuple):
    """What a mark says."""

    #: Of the call: what its request named.
    number: int
    #: Of the chunk in its answer, from 0.
    seq: int
    #: When it was written, in ns of the monotonic clock, which all processes of a machine share.
    sent_ns: int


def write(number: int, seq: int, sent_ns: int) -> bytes:
    """Write a mark."""
    return b"@@%06d%06d%020d" % (number, seq, sent_ns)


def read(message: bytes) -> Mark | None:
    """Read the first mark of a message; None where it has none."""
    place = message.find(SIGN)
    if place < 0:
        return None
    mark = message[place : place + LENGTH]
    return Mark(int(mark[len(SIGN) : _SEQ_AT]), int(mark[_SEQ_AT:_TIME_AT]), int(mark[_TIME_AT:]))
