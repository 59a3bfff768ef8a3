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

A log may lose what was seen in two ways:

- Its beginning is gone, or all of it: somebody trimmed or deleted it. Then what follows the
  cursor is not known, and CursorExpired says so.
- Its end is gone: replication is asynchronous, and a disk is written once a second, so after a
  failover or a crash the server may lack the last events, and even the last claim, whose number
  then is given to another attempt. Then the log ends before the cursor, or it has something else
  at the cursor, or another ``started`` in the cursor's attempt. What was shown is void: the
  attempt that the log has now is shown from its ``started`` on, which says ``resets``.

Pure: no Redis, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from api_contracts.errors import CursorExpired
from api_contracts.events import ENDINGS, Chunk, Event, EventId, Started, Stored, parse_event

#: Reads an event from a channel or a log.
Parse = Callable[[bytes], Event | Stored]

#: Events that a log may begin with.
_BEGINS: Final = frozenset({"queued", "started"})
#: Events that may skip places of their attempt: those that Redis refused. What stood there is
#: void, since the attempt came to nothing.
_MAY_SKIP: Final = frozenset({"retrying", "failed", "cancelled", "expired"})


class Reassembler:
    """The state of one subscription: how far it has come.

    ``after`` is the cursor to resume behind: the id of the last event that was seen. ``parse``
    reads an event, as the contract's reader does; another where events are encrypted.
    """

    def __init__(self, after: str | EventId | None = None, parse: Parse = parse_event) -> None:
        """Begin behind an event, or at the beginning."""
        self._parse = parse
        self.cursor = EventId.parse(after) if isinstance(after, str) else after
        #: Whether the log is known to hold more than was read.
        self.behind = False
        self.ended = False
        #: What stood at the cursor, and the ``started`` of its attempt, as bytes of the log; None
        #: where only the caller knows.
        self._last: bytes | None = None
        self._epoch: bytes | None = None
        #: Where the log is read from while there is no cursor.
        self._begin = "-"
        #: Whether the next ``started`` must say that what was shown is void.
        self._void = False

    @property
    def log_start(self) -> str:
        """Where to read the log from, as XRANGE takes it: behind the cursor, exclusively."""
        return f"({self.cursor}" if self.cursor else self._begin

    @property
    def landmarks(self) -> tuple[str, ...]:
        """What to read beside each page: ``started`` of the cursor's attempt, and the cursor."""
        return (f"{self.cursor.attempt}-0", str(self.cursor)) if self.cursor else ()

    def recognize(self, landmarks: Sequence[bytes | None]) -> bool:
        """Compare what the log has at :attr:`landmarks` with what was seen there.

        False where it has another attempt: the log must be read again, from that one's beginning.
        """
        if self.cursor is None:
            return True
        epoch, last = landmarks
        if (epoch and self._epoch not in (None, epoch)) or (
            last and self._last not in (None, last)
        ):
            self._begin_again(self.cursor.attempt)
            return False
        self._epoch, self._last = epoch or self._epoch, last or self._last
        self._void = self._void or last is None
        return True

    def read(self, entries: Iterable[bytes]) -> list[Event]:
        """Take the log's entries behind the cursor, in its order; return what is to be seen.

        Chunks of an attempt that a later entry has made void are left out. CursorExpired where
        the log lacks something between.
        """
        page = [(self._parse(entry), entry) for entry in entries]
        live = max((event.cursor.attempt for event, _ in page), default=0)
        return [
            self._shown(event)
            for event, entry in page
            if self._advance(event, entry)
            if not (isinstance(event, Chunk) and event.cursor.attempt < live)
            if not isinstance(event, Stored)
        ]

    def stand(self, task_id: str, last: bytes | None, *, ended: bool) -> None:
        """Take the log's last entry, and whether the record has ended: nothing is behind us.

        Then either all was read, or the log has grown meanwhile, or it has lost its end: the last
        two set :attr:`behind`. CursorExpired where it has lost everything, or the ending.
        """
        if last is None:
            message = f"the log of task {task_id} is gone: ask for its status or its result"
            raise CursorExpired(message)
        event = self._parse(last)
        place = event.cursor
        if place > self.cursor if self.cursor else not self._void:
            self.behind = True
        elif self.cursor is None or place < self.cursor:
            self._begin_again(place.attempt)
        elif ended and event.type not in ENDINGS:
            message = f"the log of task {task_id} lacks its ending: ask for its status or result"
            raise CursorExpired(message)
        else:
            self.ended = ended

    def hear(self, message: bytes) -> list[Event] | None:
        """Take a message of the channel; None where the log must be read to go on."""
        event = self._parse(message)
        place = event.cursor
        if self._knows(place):
            return None if self._contradicts(event, message) else []
        if isinstance(event, Stored) or not self._follows(place):
            return None
        self._advance(event, message)
        return [event]

    def _knows(self, place: EventId) -> bool:
        return self.cursor is not None and place <= self.cursor

    def _follows(self, place: EventId) -> bool:
        return self.cursor is not None and place == (self.cursor.attempt, self.cursor.seq + 1)

    def _contradicts(self, event: Event | Stored, message: bytes) -> bool:
        """Tell whether this is another attempt under the number of the one that was seen."""
        here = self.cursor
        if here is None or self._epoch is None or not isinstance(event, Started):
            return False
        return event.attempt == here.attempt and message != self._epoch

    def _advance(self, event: Event | Stored, entry: bytes) -> bool:
        place = event.cursor
        if self.ended or self._knows(place):
            return False
        if not self._continues(event, place):
            raise _gap(event, self.cursor)
        if self.cursor is None or place.attempt > self.cursor.attempt:
            self._epoch = entry if isinstance(event, Started) else None
        self.cursor, self._last = place, entry
        self.ended = event.type in ENDINGS
        return True

    def _continues(self, event: Event | Stored, place: EventId) -> bool:
        """Tell whether nothing is missing before this event: the rules of a whole log."""
        # An attempt follows another, and a log that was replayed begins anew.
        if event.type in _BEGINS:
            return True
        if self.cursor is None or place.attempt != self.cursor.attempt:
            return False
        return place.seq == self.cursor.seq + 1 or event.type in _MAY_SKIP

    def _begin_again(self, attempt: int) -> None:
        """Forget what was seen: the log is read from this attempt's beginning."""
        self.cursor, self._begin = None, f"{attempt}-0"
        self._void = self.behind = True

    def _shown(self, event: Event) -> Event:
        if not (self._void and isinstance(event, Started)):
            return event
        self._void = False
        return event.model_copy(update={"resets": True})


def _gap(event: Event | Stored, cursor: EventId | None) -> CursorExpired:
    if cursor is None:
        lacks = f"begins at {event.id}, in the middle of an attempt"
    else:
        lacks = f"no longer holds what follows {cursor}: it goes on at {event.id}"
    return CursorExpired(f"the log of task {event.task_id} {lacks}; ask for the task's result")
