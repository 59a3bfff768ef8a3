"""The reassembler: whatever the channel does, each event of the live attempt once and in order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.client import flows
from api_contracts.client.reassembler import Reassembler
from api_contracts.errors import CursorExpired
from api_contracts.events import ENDINGS, Chunk, Event, EventId, Started, Stored, parse_event
from tests.parts.scripts import KEYS, chunk, ending

TASK = "0b9ff6f2-8a0c-4a94-9f53-6f5a5a3f4f0e"


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


ONE = story((3, "completed"))
#: Cursor, message that is heard then, and what comes of it: None asks for the log.
HEARD = [
    ("0-1", entry("1-0", "started"), None, "another attempt: were there chunks between?"),
    ("1-0", entry("1-1", "chunk"), ["1-1"], "the next one"),
    ("1-0", entry("1-2", "chunk"), None, "a gap"),
    ("1-2", entry("1-2", "chunk"), [], "the last one again"),
    ("1-2", entry("1-0", "started"), [], "an old one"),
    ("1-9", entry("1-10", "chunk"), ["1-10"], "numbers, not texts, are compared"),
    ("1-10", entry("1-9", "chunk"), [], "likewise"),
    ("2-0", entry("1-7", "chunk"), [], "a chunk of a void attempt"),
    ("2-3", entry("10-0", "started"), None, "a later attempt"),
    ("1-2", entry("1-3", "stored"), None, "a stub: its whole is in the log"),
    ("1-2", entry("1-2", "stored"), [], "the stub of what is known"),
    ("1-2", entry("1-3", "completed"), ["1-3"], "the ending"),
    ("1-2", entry("1-4", "completed"), None, "the ending behind a gap"),
    ("0-1", entry("0-2", "expired"), ["0-2"], "the ending of a task that never began"),
]


@pytest.mark.parametrize(
    ("cursor", "message", "comes"), [pytest.param(*row[:3], id=row[3]) for row in HEARD]
)
def test_a_message_is_the_next_event_or_known_or_sends_to_the_log(
    cursor: str, message: bytes, comes: list[str] | None
) -> None:
    seen = Reassembler(cursor)
    assert places(seen.hear(message)) == comes
    assert seen.ended is (comes in (["1-3"], ["0-2"]))
    assert str(seen.cursor) == (comes[-1] if comes else cursor)


def test_nothing_is_heard_before_the_log_was_read() -> None:
    seen = Reassembler()
    assert seen.hear(entry("0-1", "queued")) is None
    assert places(seen.read(ONE[:1])) == ["0-1"]


#: Log, where it is cut into pages, and the ids that are to be seen.
READ = [
    (ONE, [], ["0-1", "1-0", "1-1", "1-2", "1-3", "1-4"]),
    (ONE, [1, 2, 3, 4, 5], ["0-1", "1-0", "1-1", "1-2", "1-3", "1-4"]),
    (story((2, "retrying"), (1, "failed")), [], ["0-1", "1-0", "1-3", "2-0", "2-1", "2-2"]),
    (story((2, ""), (0, ""), (1, "failed")), [], ["0-1", "1-0", "2-0", "3-0", "3-1", "3-2"]),
    # A page boundary inside the first attempt: what was shown before it is void, and said to be.
    (story((2, ""), (1, "failed")), [3], ["0-1", "1-0", "1-1", "2-0", "2-1", "2-2"]),
    (story((2, ""), (1, "failed")), [4], ["0-1", "1-0", "1-1", "1-2", "2-0", "2-1", "2-2"]),
    (story((2, "")), [], ["0-1", "1-0", "1-1", "1-2"]),
    ([*ONE, entry("1-5", "failed")], [], ["0-1", "1-0", "1-1", "1-2", "1-3", "1-4"]),
]


@pytest.mark.parametrize(("log", "cuts", "seen_ids"), READ)
def test_a_log_is_read_without_what_a_later_attempt_has_made_void(
    log: list[bytes], cuts: list[int], seen_ids: list[str]
) -> None:
    seen = Reassembler()
    shown: list[Event] = []
    for begin, end in pairwise([0, *cuts, len(log)]):
        shown += seen.read(log[begin:end])
    assert places(shown) == seen_ids
    assert seen.ended is (shown[-1].type in ENDINGS)


def test_a_page_that_was_read_before_shows_nothing_twice() -> None:
    seen = Reassembler()
    seen.read(ONE[:4])
    assert places(seen.read(ONE)) == ["1-3", "1-4"]
    assert seen.read(ONE) == []


@pytest.mark.parametrize("place", range(len(ONE)))
def test_a_subscription_resumes_behind_any_event(place: int) -> None:
    after = parse_event(ONE[place]).id
    seen = Reassembler(after)
    assert seen.log_start == f"({after}"
    shown = places(seen.read(behind(ONE, seen)))
    assert shown == [parse_event(event).id for event in ONE[place + 1 :]]


def test_a_subscription_begins_at_the_log_s_beginning() -> None:
    assert Reassembler().log_start == "-"


@pytest.mark.parametrize("after", ["", "1", "1-", "-1", "1-x", "1-1-1", " 1-1", "(1-1", "٣-1"])
def test_a_cursor_that_is_no_id_is_refused(after: str) -> None:
    with pytest.raises(ValueError, match="an event id reads ATTEMPT-SEQ"):
        Reassembler(after)


# The property: any log, any order, loss and doubling of messages, any moments of reading.


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


@given(worlds(), ACTIONS)
def test_any_subscriber_sees_the_live_attempt_whole_and_nothing_twice(
    world: World, actions: list[tuple[str, int]]
) -> None:
    for action in actions:
        world.step(action)
    world.finish()
    everything = [parse_event(one) for one in world.log]
    start = EventId.parse(world.after) if world.after else EventId(0, 0)
    live = everything[-1].cursor.attempt
    shown = [event.cursor for event in world.shown]
    assert all(one < two for one, two in pairwise(shown)), "in order, and nothing twice"
    assert set(shown) <= {event.cursor for event in everything if event.cursor > start}
    assert set(must_see(everything, start, live)) <= set(shown), "nothing is missing"
    assert world.seen.ended
    endings = [event.type in ENDINGS for event in world.shown].count(True)
    assert endings == (start < everything[-1].cursor)


def must_see(everything: list[Event | Stored], start: EventId, live: int) -> Iterator[EventId]:
    """All but chunks of void attempts."""
    for event in everything:
        if event.cursor > start and (event.type != "chunk" or event.cursor.attempt == live):
            yield event.cursor


# What a log may lose: its end, with a server; its beginning, to whoever trims it.


def screen(events: list[Event]) -> list[str]:
    """What somebody has before him who clears it whenever an event says so."""
    text: list[str] = []
    for event in events:
        if isinstance(event, Started) and event.resets:
            text = []
        if isinstance(event, Chunk):
            text.append(event.data)
    return text


def said(texts: list[str]) -> list[Event]:
    """Chunks that say this."""
    return [Chunk(id="1-1", task_id=TASK, at=1, data=text) for text in texts]


def chunks_of(log: list[bytes]) -> list[str]:
    """The chunks of a log's last attempt."""
    events = [parse_event(one) for one in log]
    live = events[-1].cursor.attempt
    return [one.data for one in events if isinstance(one, Chunk) and one.cursor.attempt == live]


@st.composite
def failovers(draw: st.DrawFn) -> tuple[World, list[bytes]]:
    """A world, and the log of another server: a beginning of its own, with another end."""
    log = story(*draw(ATTEMPTS), draw(LAST))
    kept = log[: draw(st.integers(1, len(log) - 1))]
    here = parse_event(kept[-1]).cursor
    if draw(st.booleans()) and here.attempt:
        end = draw(st.sampled_from(["retrying", "cancelled"]))
        kept.append(entry(f"{here.attempt}-{here.seq + 1}", end))
    if parse_event(kept[-1]).type not in ENDINGS:
        kept = told(kept, *draw(ATTEMPTS), draw(LAST), worker="other")
    after = draw(st.none() | st.just("0-1"))
    return World(log, draw(st.integers(1, 8)), after), kept


@given(failovers(), ACTIONS, ACTIONS, st.integers(1, 40))
def test_a_subscriber_shows_what_the_new_server_has_and_nothing_that_it_lost(
    scene: tuple[World, list[bytes]],
    before: list[tuple[str, int]],
    behind: list[tuple[str, int]],
    grown: int,
) -> None:
    world, log = scene
    for action in before:
        world.step(action)
    if world.seen.ended:
        return  # he has his ending, and does not come back
    world.log, world.grown = log, min(grown, len(log))
    for action in [("read", 0), *behind]:
        world.step(action)
    world.finish()
    assert screen(world.shown) == chunks_of(log)
    assert [event.type for event in world.shown if event.type in ENDINGS] == [
        parse_event(log[-1]).type
    ]
    assert world.shown[-1].type in ENDINGS


@given(worlds(), st.integers(0, 12))
def test_a_log_without_its_beginning_is_told_or_lacks_nothing_of_the_live_attempt(
    world: World, lost: int
) -> None:
    everything = [parse_event(one) for one in world.log]
    start = EventId.parse(world.after) if world.after else EventId(0, 0)
    live = everything[-1].cursor.attempt
    world.log = world.log[lost:]
    try:
        world.finish()
    except CursorExpired:
        assert lost, "nothing was lost"
        return
    shown = [event.cursor for event in world.shown]
    wanted = [one.cursor for one in everything if one.cursor > start and one.cursor.attempt == live]
    if everything[-1].type != "completed":  # its chunks came to nothing, and may be skipped
        wanted = wanted[-1:]
    assert [place for place in shown if place.attempt == live][-len(wanted) :] == wanted


LONG = story((2, "retrying"), (4, "failed"))
REPLAYED = told([entry("2-6", "queued")], (1, "completed"))
#: Cursor, log, the ids that are to be seen, or what is said where something is missing.
LOST = [
    (None, LONG[4:], "begins at 1-3, in the middle of an attempt"),
    (None, LONG[7:], "begins at 2-2, in the middle of an attempt"),
    (None, LONG[5:], ["2-0", "2-1", "2-2", "2-3", "2-4", "2-5"]),
    (None, [], "is gone: ask for its status or its result"),
    ("0-1", LONG[2:], "no longer holds what follows 0-1: it goes on at 1-1"),
    ("0-1", LONG[5:], ["2-0", "2-1", "2-2", "2-3", "2-4", "2-5"]),
    ("1-1", LONG[5:], ["2-0", "2-1", "2-2", "2-3", "2-4", "2-5"]),
    ("1-1", LONG[6:], "no longer holds what follows 1-1: it goes on at 2-1"),
    ("1-1", LONG[4:5], ["1-3"]),
    ("2-1", LONG[7:], ["2-2", "2-3", "2-4", "2-5"]),
    ("2-1", LONG[8:], "no longer holds what follows 2-1: it goes on at 2-3"),
    ("2-1", LONG[10:], ["2-5"]),
    ("2-5", LONG[10:], []),
    ("2-5", [], "is gone: ask for its status or its result"),
    ("2-4", [], "is gone: ask for its status or its result"),
    (None, REPLAYED, ["2-6", "3-0", "3-1", "3-2"]),
    ("1-1", REPLAYED, ["2-6", "3-0", "3-1", "3-2"]),
    ("2-5", REPLAYED, ["2-6", "3-0", "3-1", "3-2"]),
    ("2-6", REPLAYED, ["3-0", "3-1", "3-2"]),
    # Ahead of the log: its server has lost its end, or somebody has made the cursor up.
    ("2-9", LONG, ["2-0", "2-1", "2-2", "2-3", "2-4", "2-5"]),
    ("7-0", LONG, ["2-0", "2-1", "2-2", "2-3", "2-4", "2-5"]),
    ("7-0", LONG[6:], "begins at 2-1, in the middle of an attempt"),
    ("7-0", REPLAYED[:1], ["2-6"]),
]


@pytest.mark.parametrize(("cursor", "log", "comes"), LOST)
@pytest.mark.parametrize("page", [1, 3, 100])
def test_what_a_log_has_lost_is_told(
    cursor: str | None, log: list[bytes], comes: list[str] | str, page: int
) -> None:
    world = World(log, page, cursor)
    if isinstance(comes, str):
        with pytest.raises(CursorExpired, match=f"^the log of task {TASK} {comes}"):
            world.finish()
    else:
        world.finish()
        assert places(world.shown) == comes
        assert world.seen.ended is (parse_event(log[-1]).type in ENDINGS)


def test_a_log_without_the_ending_that_its_record_has_is_told() -> None:
    world = World(LONG[:-1], 8, "2-1")
    world.finish()
    with pytest.raises(CursorExpired, match="lacks its ending"):
        world.seen.stand(TASK, LONG[-2], ended=True)


QUEUED = [entry("0-1", "queued")]
#: The log of a server that is lost, that of the one that follows, and what is seen of it then.
LOST_ENDS = [
    (
        story((2, "")),
        told(QUEUED, (3, "completed"), worker="other"),
        ["1-0", "1-1", "1-2", "1-3", "1-4"],
        "the same number for another attempt",
    ),
    (
        story((2, "")),
        told(QUEUED, (1, "completed"), worker="other"),
        ["1-0", "1-1", "1-2"],
        "likewise, and shorter",
    ),
    (
        story((2, "")),
        [*told(QUEUED, (0, ""), worker="other"), *story((3, "completed"))[2:]],
        ["1-0", "1-1", "1-2", "1-3", "1-4"],
        "likewise, and it says the same",
    ),
    (
        story((2, "")),
        [*story((0, "")), entry("1-1", "cancelled")],
        ["1-0", "1-1"],
        "an ending before the cursor",
    ),
    (
        story((2, "")),
        [*story((1, "")), entry("1-2", "cancelled")],
        ["1-0", "1-1", "1-2"],
        "an ending in the place of the cursor",
    ),
    (
        story((2, "")),
        told(story((0, "")), (1, "completed"), worker="other"),
        ["2-0", "2-1", "2-2"],
        "a next attempt that knows of no chunk",
    ),
    (story((2, "")), story((2, "completed")), ["1-3"], "nothing was lost"),
]


@pytest.mark.parametrize("after", [None, "0-1", "1-0", "1-2"])
@pytest.mark.parametrize(
    ("lost", "log", "comes"), [pytest.param(*row[:3], id=row[3]) for row in LOST_ENDS]
)
def test_what_a_server_took_with_it_is_void(
    lost: list[bytes], log: list[bytes], comes: list[str], after: str | None
) -> None:
    world = World(lost, 8, after)
    world.finish()
    before = len(world.shown)
    world.log = log
    world.finish()
    assert places(world.shown[before:]) == comes
    # Who resumed behind 1-2 had two chunks before him.
    had = ["1-1 of w", "1-2 of w"] if after == "1-2" else []
    assert screen([*said(had), *world.shown]) == chunks_of(log)


def test_another_attempt_of_the_same_number_is_noticed_by_its_message() -> None:
    """Before the log is read again: its claim was heard on the channel."""
    world = World(story((2, "")), 8, None)
    world.finish()
    before = len(world.shown)
    world.log = told(QUEUED, (3, "completed"), worker="other")
    assert world.seen.hear(world.log[1]) is None
    world.finish()
    assert places(world.shown[before:]) == ["1-0", "1-1", "1-2", "1-3", "1-4"]


def test_a_log_that_loses_its_end_twice_is_followed() -> None:
    """The second time to before the attempt that was to be shown again."""
    world = World(story((1, "retrying"), (1, "retrying"), (2, "")), 8, None)
    world.finish()
    world.log = story((1, "retrying"), (1, "retrying"), (1, ""))
    assert world.read_page() == []
    world.log = story((1, "retrying"), (1, ""))
    before = len(world.shown)
    world.finish()
    world.log = told(world.log, (1, "completed"), worker="other")
    world.finish()
    assert places(world.shown[before:]) == ["2-0", "2-1", "3-0", "3-1", "3-2"]
    assert screen(world.shown) == ["3-1 of other"]
