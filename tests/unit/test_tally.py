"""Names of what is counted, and what is read of them."""

from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import ErrorCode
from api_contracts.names import State
from worker.tally import TALLIED, Tally
from worker.telemetry import DEAD_LETTERS, TASKS, TaskEnd


def read(tally: Tally, names: str, count: bytes = b"1") -> dict[str, dict[tuple[str, ...], int]]:
    counts = tally.read((name.encode(), count) for name in names.split("\n"))
    return {row.name: dict(counted) for row, counted in counts.items()}


def test_what_is_named_is_read_again() -> None:
    tally = Tally({"m"})
    names = tally.ended(TaskEnd("chat", "openai", "m", State.FAILED, 1.0), ErrorCode.POISON)
    assert tally.known(names) == names
    assert read(tally, names, b"7") == {
        TASKS.name: {("chat", "openai", "m", "failed"): 7},
        DEAD_LETTERS.name: {("poison",): 7},
    }


def test_a_model_that_is_not_listed_any_more_is_added_to_the_others() -> None:
    names = [Tally({"m"}).ended(TaskEnd("chat", "x", m, State.COMPLETED, 1)) for m in ("m", "n")]
    later = read(Tally(()), "\n".join(names))
    assert later[TASKS.name] == {("chat", "x", "other", "completed"): 2}


@given(kind=st.text(min_size=7), vendor=st.text(min_size=12), model=st.none() | st.text(min_size=2))
def test_a_name_is_one_line_and_no_label_is_a_tasks_to_choose(
    kind: str, vendor: str, model: str | None
) -> None:
    tally = Tally({"m"})
    name = tally.ended(TaskEnd(kind, vendor, model, State.EXPIRED, None))
    assert read(tally, name)[TASKS.name] == {("other", "other", "other", "expired"): 1}


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_what_is_none_of_ours_is_left(fields: list[tuple[bytes, bytes]]) -> None:
    ours = b'["router_worker_tasks_total","chat","x","y","failed"]'
    more = [
        (b'["router_worker_tasks_total","chat"]', b"1"),
        (b'["router_worker_tasks_total","chat","x","y","gone"]', b"1"),
        (b'["router_worker_tasks_total",[],"x","y","failed"]', b"1"),
        (b'["router_worker_dead_letters_total","nothing"]', b"1"),
        (b'["router_worker_chunks_total","x"]', b"1"),
        (b"[" * 100_000, b"1"),
        (ours, b"many"),
        (ours, b"-1"),
        (ours, b"9" * 400),
    ]
    assert Tally(()).read([*fields, *more]) == {row: {} for row in TALLIED}
