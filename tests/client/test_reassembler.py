"""The reassembler: whatever the channel does, each event of the live attempt once and in order."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given

from api_contracts.client.reassembler import Reassembler
from api_contracts.events import ENDINGS, Event, EventId, Stored, parse_event
from tests.parts.stories import ACTIONS, World, behind, entry, places, story, worlds

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
