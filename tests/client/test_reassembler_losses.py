"""The reassembler on a log that loses something: its end with a server, its beginning by a trim."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import CursorExpired
from api_contracts.events import ENDINGS, Chunk, Event, EventId, Started, parse_event
from tests.parts.stories import (
    ACTIONS,
    ATTEMPTS,
    LAST,
    TASK,
    World,
    entry,
    places,
    story,
    told,
    worlds,
)


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
