"""Logs told as stories, and a world in which one subscribes to them: no Redis, no clock.

For tests of the reassembler and of the flows that feed it.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch

from hypothesis import strategies as st

from api_contracts.client import flows
from api_contracts.client.reassembler import Reassembler
from api_contracts.events import ENDINGS, Event, EventId, parse_event
from tests.parts.scripts import KEYS, chunk, ending

TASK: Final = "0b9ff6f2-8a0c-4a94-9f53-6f5a5a3f4f0e"


def entry(place: str, kind: str, worker: str = "w", *, resets: bool = False) -> bytes:
    """An event of this type, as it stands in a log; what a chunk says tells whose it is."""
    attempt, _, seq = place.partition("-")
    if kind == "chunk":
        return chunk(TASK, int(attempt), int(seq), f'"{place} of {worker}"'.encode())
    if kind == "started":
        more = f'"attempt":{attempt},"worker":"{worker}","resets":{str(resets).lower()}'
        return f'{{"id":"{place}","task_id":"{TASK}","type":"started","at":1,{more}}}'.encode()
    return ending(TASK, place, kind)


def story(*attempts: tuple[int, str]) -> list[bytes]:
    """A log: of each attempt its chunks and what it ended with, '' for a death."""
    return told([entry("0-1", "queued")], *attempts)


def told(log: list[bytes], *attempts: tuple[int, str], worker: str = "w") -> list[bytes]:
    """Continue a log with more attempts, by this worker."""
    log = list(log)
    first = parse_event(log[-1]).cursor.attempt + 1
    for number, (chunks, end) in enumerate(attempts, first):
        resets = any(parse_event(one).type == "chunk" for one in log)
        log.append(entry(f"{number}-0", "started", worker, resets=resets))
        log += [entry(f"{number}-{seq}", "chunk", worker) for seq in range(1, chunks + 1)]
        if end:
            log.append(entry(f"{number}-{chunks + 1}", end))
    return log


def places(events: list[Event] | None) -> list[str] | None:
    return None if events is None else [event.id for event in events]


def behind(log: list[bytes], seen: Reassembler) -> list[bytes]:
    """What XRANGE gives behind the cursor."""
    return [one for one in log if seen.cursor is None or parse_event(one).cursor > seen.cursor]


@dataclass
class World:
    """A log that grows, its channel, and one who subscribes as the shells do."""

    log: list[bytes]
    page: int
    after: str | None
    grown: int = 1
    shown: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen = Reassembler(self.after)

    def step(self, action: tuple[str, int]) -> None:
        what, number = action
        if what == "grow":
            self.grown = min(len(self.log), self.grown + number)
        elif self.seen.ended:
            return
        elif what == "read":
            self.shown += self.read_page()
        else:
            # Any message that was ever sent: late, again, or the newest with all before it lost.
            self.hear(self.log[number % self.grown])

    def hear(self, message: bytes) -> None:
        events = None if self.seen.behind else self.seen.hear(message)
        self.shown += self.read_page() if events is None else events

    def read_page(self) -> list[Event]:
        """Ask as the shells do, and answer as Redis does."""
        with patch.object(flows, "PAGE", self.page):
            flow = flows.log_page(TASK, KEYS, self.seen)
            batch = next(flow)
            while True:
                assert isinstance(batch, flows.Batch)
                try:
                    batch = flow.send([self.reply(*command) for command in batch.commands])
                except StopIteration as stop:
                    events: list[Event] = stop.value
                    return events

    def reply(self, name: Any, _key: Any, *arguments: Any) -> list[Any]:
        log = self.log[: self.grown]
        if name == "HMGET":
            last = parse_event(log[-1]).type if log else "cancelled"
            return [(last if last in ENDINGS else "running").encode()]
        if name == "XREVRANGE":
            return [entry_of(one) for one in log[-1:]]
        first, last, count = arguments[0], arguments[1], (*arguments, self.page)[-1]
        found = [one for one in log if within(parse_event(one).cursor, first, last)]
        return [entry_of(one) for one in found[:count]]

    def finish(self) -> None:
        """The last silence: the log is read to its end."""
        self.grown = len(self.log)
        while not self.seen.ended:
            self.shown += self.read_page()
            if not self.seen.behind and not self.seen.ended:
                return


def entry_of(event: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    return str(parse_event(event).cursor).encode(), {b"event": event}


def within(place: EventId, first: str, last: str) -> bool:
    """Whether XRANGE gives this place."""
    if first.startswith("("):
        return place > EventId.parse(first[1:])
    return (first == "-" or place >= EventId.parse(first)) and (
        last == "+" or place <= EventId.parse(last)
    )


ATTEMPTS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["", "retrying"])), max_size=3)
LAST = st.tuples(st.integers(0, 6), st.sampled_from(sorted(ENDINGS)))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 4)),
        st.tuples(st.just("hear"), st.integers(0, 40) | st.just(-1)),
        st.tuples(st.just("read"), st.just(0)),
    ),
    max_size=40,
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    log = story(*draw(ATTEMPTS), draw(LAST))
    seen = draw(st.integers(0, len(log)))
    after = parse_event(log[seen - 1]).id if seen else None
    return World(log, draw(st.integers(1, 8)), after, grown=max(1, seen))
