"""Put log and channel together: each event of the live attempt once, in order, without a gap.

The life of a subscription:

1. The shell subscribes to the channel, and waits until Redis has said so.
2. It reads the log behind the cursor (:meth:`Reassembler.read`): whatever was published before
   step 1 is there.
3. It hands over every message of the channel (:meth:`Reassembler.hear`). The next event of the
   attempt goes through; one that is known is dropped; after any other the answer is None, and
   the shell reads the log again.
4. After a silence, and after a reconnect, it reads the log too: a channel promises nothing.
5. The ending is the last event: :attr:`Reassembler.ended`.

Pure: no Redis, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from api_contracts.events import ENDINGS, Chunk, Event, EventId, Stored, parse_event


class Reassembler:
    """The state of one subscription: how far it has come.

    ``after`` is the cursor to resume behind: the id of the last event that was seen.
    """

    def __init__(self, after: str | EventId | None = None) -> None:
        """Begin behind an event, or at the beginning."""
        self.cursor = EventId.parse(after) if isinstance(after, str) else after
        #: Whether the log is known to hold more than was read.
        self.behind = False
        self.ended = False

    @property
    def log_start(self) -> str:
        """Where to read the log from, as XRANGE takes it: behind the cursor, exclusively."""
        return f"({self.cursor}" if self.cursor else "-"

    def read(self, entries: Iterable[bytes]) -> list[Event]:
        """Take the log's entries behind the cursor, in its order; return what is to be seen.

        Chunks of an attempt that a later entry has made void are left out.
        """
        events = [parse_event(entry) for entry in entries]
        places = [event.cursor for event in events]
        live = max((place.attempt for place in places), default=0)
        return [
            event
            for event, place in zip(events, places, strict=True)
            if self._advance(event, place)
            if not (isinstance(event, Chunk) and place.attempt < live)
            if not isinstance(event, Stored)
        ]

    def hear(self, message: bytes) -> list[Event] | None:
        """Take a message of the channel; None where the log must be read to go on."""
        event = parse_event(message)
        place = event.cursor
        if self._knows(place):
            return []
        if isinstance(event, Stored) or not self._follows(place):
            return None
        self._advance(event, place)
        return [event]

    def _knows(self, place: EventId) -> bool:
        return self.cursor is not None and place <= self.cursor

    def _follows(self, place: EventId) -> bool:
        return self.cursor is not None and place == (self.cursor.attempt, self.cursor.seq + 1)

    def _advance(self, event: Event | Stored, place: EventId) -> bool:
        if self.ended or self._knows(place):
            return False
        self.cursor = place
        self.ended = event.type in ENDINGS
        return True
