"""What a worker says of itself every few seconds, for whoever looks at them all. Pure.

The leases in the records name workers too, but only those that have work, and not how much more
they could take. So each worker leaves a note that expires: four commands in 2 s.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated, Final

import msgspec
from msgspec import Meta

#: How often a worker says that it lives, in seconds.
SIGN_S: Final = 2.0
#: Without a word for so long it counts as silent, in seconds: some may be late on a busy machine.
SILENT_S: Final = 10.0
#: How long what it said last can be read, in seconds: whoever is woken finds who is missing.
KEPT_S: Final = 600
#: Tasks that it names: those that it has held longest.
NAMED: Final = 50
#: Over how long its pace is measured, in seconds: calls of a minute are no rarity.
PACE_S: Final = 60.0

_Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Presence(msgspec.Struct, frozen=True):
    """What a worker does now."""

    #: Tasks that it takes at once, and those that it has taken.
    slots: _Count
    taken: _Count
    #: Attempts that ended, each second of the last minute.
    attempts_per_s: Annotated[float, Meta(ge=0, le=1e9)]
    #: Why it would take no task now, in plain words; None where it would.
    fault: str | None
    #: Ids of the tasks that it has held longest, :data:`NAMED` at most.
    tasks: Annotated[tuple[str, ...], Meta(max_length=NAMED)]


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Presence).decode


def write(presence: Presence) -> bytes:
    """Write it as JSON."""
    return _encode(presence)


def read(text: bytes | None) -> Presence | None:
    """Read what anybody may have written; None where it is none."""
    try:
        return _decode(text or b"")
    except (msgspec.DecodeError, RecursionError):
        return None


class Pace:
    """How fast a count has grown lately."""

    def __init__(self, now_s: float) -> None:
        """Begin at 0; moments are of any clock that does not jump, in seconds."""
        self._seen: deque[tuple[float, int]] = deque([(now_s, 0)])

    def next(self, count: int, now_s: float) -> float:
        """Note how far it has come; return its growth each second, over :data:`PACE_S` or less."""
        self._seen.append((now_s, count))
        while self._seen[1][0] <= now_s - PACE_S:
            self._seen.popleft()
        began_s, before = self._seen[0]
        return (count - before) / (now_s - began_s) if now_s > began_s else 0.0
