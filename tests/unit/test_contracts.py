"""The public surface, names, options, events, errors and results of the contract."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import api_contracts
from api_contracts import (
    ENDINGS,
    MEANINGS,
    CeleryTask,
    Chunk,
    ErrorCode,
    EventId,
    InvalidTask,
    Keys,
    Options,
    Queue,
    Result,
    RetryPolicy,
    State,
    Status,
    TaskError,
    TaskFailed,
    Usage,
    parse_event,
    parse_task,
)
from api_contracts.options import EARLIEST_MS, LATEST_MS
from api_contracts.schema import examples
from tests.parts.tasks import PROMPT, chat

# --- the public surface -----------------------------------------------------------------------


def test_the_public_surface_is_sorted_and_whole() -> None:
    names = api_contracts.__all__
    kinds = {name: (not name.isupper(), name.islower()) for name in names}
    assert names == sorted(names, key=lambda name: (kinds[name], name))
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(api_contracts, name) is not None
    classes = {name for name, one in vars(api_contracts).items() if isinstance(one, type)}
    assert classes <= set(names)


def test_importing_the_contract_is_quiet_and_needs_pydantic_alone() -> None:
    """A web service that only parses events must not pay for Celery, Redis or HTTP."""
    code = (
        "import sys; before = set(sys.modules); import api_contracts; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    foreign = set(done.stdout.split()) - set(sys.stdlib_module_names)
    pydantics = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions"}
    assert {one for one in foreign if not one.startswith("_")} <= {
        "api_contracts", "typing_inspection", *pydantics,
    }  # fmt: skip


# --- names ------------------------------------------------------------------------------------


def test_the_keys_are_those_that_other_programs_know() -> None:
    keys = Keys()
    assert keys.record("ID") == "rw:{ID}"
    assert keys.events("ID") == "rw:{ID}:events"
    assert keys.live("ID") == "rw:{ID}:live"
    assert (keys.due, keys.dead) == ("rw:due", "rw:dead")
    assert keys.idempotency("web", "k:1") == "rw:idem:web:k:1"
    assert Keys("x").record("ID") == "x:{ID}"


def test_queues_tasks_and_states_are_those_that_other_programs_know() -> None:
    assert list(Queue) == ["router.interactive", "router.batch"]
    assert list(CeleryTask) == ["router.chat", "router.vision", "router.native"]
    assert {state for state in State if state.ended} == ENDINGS
    assert [state for state in State if not state.ended] == ["queued", "running", "retrying"]


# --- options ----------------------------------------------------------------------------------


def test_every_option_has_a_default() -> None:
    options = parse_task(chat()).options
    assert options == Options()
    assert options.queue is Queue.INTERACTIVE
    assert {options.stream, options.deadline, options.expires_at, options.retry} == {None}
    assert (options.tenant, options.on_interrupt, options.result_ttl) == (
        "default", "restart", 86_400,
    )  # fmt: skip


def test_priority_chooses_the_queue() -> None:
    assert Options(priority="batch").queue is Queue.BATCH


@pytest.mark.parametrize(
    ("moment", "unix_ms"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000),
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 1_767_225_600_000),
        (datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC), 1_767_225_600_999),
        (datetime(2033, 11, 14, 3, 7, 11, 1_000, tzinfo=UTC), 2_015_550_431_001),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), LATEST_MS),
        (EARLIEST_MS, EARLIEST_MS),
    ],
)
def test_a_moment_may_be_an_aware_datetime(moment: Any, unix_ms: int) -> None:
    options = Options(deadline=moment, expires_at=moment)
    assert (options.deadline, options.expires_at) == (unix_ms, unix_ms)


@given(st.integers(EARLIEST_MS, LATEST_MS))
def test_a_datetime_keeps_every_millisecond(unix_ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)
    assert Options.model_validate({"deadline": moment}).deadline == unix_ms


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (datetime(2026, 1, 1), "a datetime needs a time zone"),  # noqa: DTZ001 - the fault
        (datetime(1999, 1, 1, tzinfo=UTC), "must be at least 1000000000000"),
        (datetime.min.replace(tzinfo=UTC), "must be at least 1000000000000"),
        (1_767_225_600, "must be at least 1000000000000"),
        (1_767_225_600.5, "must be an integer"),
    ],
)
def test_a_moment_in_seconds_or_without_zone_is_refused(moment: Any, reason: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        parse_task(chat() | {"options": {"deadline": moment}})
    assert str(caught.value) == f"options.deadline: {reason}"


def test_a_retry_override_changes_what_it_names() -> None:
    policy = parse_task(chat() | {"options": {"retry": {"max_attempts": 2, "base_s": 3}}}).options
    assert policy.retry == RetryPolicy(max_attempts=2, base_s=3.0)
    assert RetryPolicy() == RetryPolicy(max_attempts=5, base_s=1.0, factor=2.0, cap_s=60.0)


@pytest.mark.parametrize(
    ("failures", "ceiling_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10**9, 60)]
)
def test_the_back_off_doubles_up_to_its_cap(failures: int, ceiling_s: float) -> None:
    assert RetryPolicy().ceiling_s(failures) == ceiling_s


@given(
    st.builds(
        RetryPolicy,
        base_s=st.floats(0, 3600),
        factor=st.floats(1, 10),
        cap_s=st.floats(0, 3600),
    ),
    st.integers(1, 10**6),
)
def test_the_back_off_never_falls_and_never_passes_its_cap(
    policy: RetryPolicy, failures: int
) -> None:
    ceiling = policy.ceiling_s(failures)
    assert 0 <= ceiling <= policy.ceiling_s(failures + 1) <= policy.cap_s


def test_options_do_not_show_metadata() -> None:
    options = Options(metadata={"note": PROMPT})
    assert PROMPT not in f"{options!r} {options}"
    with pytest.raises(ValidationError) as caught:
        Options.model_validate({"metadata": PROMPT})
    assert PROMPT not in str(caught.value)


# --- events -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0-1", "1-0", "12-345", "0-0", f"{'9' * 18}-{'9' * 18}"])
def test_an_event_id_is_written_as_it_was_read(text: str) -> None:
    assert str(EventId.parse(text)) == text


@given(st.lists(st.tuples(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))))
def test_event_ids_are_in_the_order_of_attempt_and_seq(pairs: list[tuple[int, int]]) -> None:
    ids = [EventId.parse(f"{attempt}-{seq}") for attempt, seq in pairs]
    assert [tuple(one) for one in sorted(ids)] == sorted(pairs)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "-",
            "1",
            "1-",
            "-1",
            "1--1",
            "1-2-3",
            "a-b",
            "1.0-2",
            " 1-2",
            "1-2 ",
            "1-2\n",
            "+1-2",
        ),
        *(
            "0x1-2",
            "1e3-2",
            "1_0-2",
            "\u0661-\u0662",
            "\u00b2-1",
            f"1-{'9' * 19}",
            f"{'1' * 5000}-1",
        ),
        *("$", "*", "(1-2"),
    ],
)
def test_what_is_no_event_id_is_refused_with_the_form_it_should_have(text: str) -> None:
    with pytest.raises(ValueError, match=r"an event id reads ATTEMPT-SEQ, such as 1-17, not"):
        EventId.parse(text)
    event = json.dumps(examples.EVENTS["queued"] | {"id": text})
    with pytest.raises(ValueError, match="should match pattern"):
        parse_event(event)


@pytest.mark.parametrize("kind", examples.EVENTS)
def test_an_event_is_read_by_its_type(kind: str) -> None:
    event = parse_event(json.dumps(examples.EVENTS[kind]))
    assert type(event).__name__.lower() == event.type == kind
    assert str(event.cursor) == event.id
    assert json.loads(event.model_dump_json(exclude_unset=True)) == examples.EVENTS[kind]


def test_an_event_of_a_newer_writer_is_read() -> None:
    newer = examples.EVENTS["chunk"] | {"trace": "abc"}
    assert isinstance(parse_event(json.dumps(newer)), Chunk)


@pytest.mark.parametrize("data", [{"x": [1, {"y": None}]}, [], "text", None, 1.5])
def test_a_chunk_keeps_what_the_router_sent(data: Any) -> None:
    event = parse_event(json.dumps(examples.EVENTS["chunk"] | {"data": data}))
    assert isinstance(event, Chunk)
    assert event.data == data


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '"chunk"', "{}", '{"type":"chunk"}', '{"type":"new","id":"1-1"}'),
        *(b"\xff", "[" * 100_000, '{"type":"chunk","data":"' + PROMPT + '"}'),
    ],
)
def test_what_is_no_event_is_a_value_error_that_does_not_show_its_content(text: str) -> None:
    with pytest.raises(ValueError, match=r"validation error") as caught:
        parse_event(text)
    assert "input_value" not in str(caught.value)
    assert PROMPT not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        '{"content": "\\ud83d"}',
        '{"deep": ' + "[" * 300 + "]" * 300 + "}",
        '{"n": ' + "9" * 5000 + "}",
    ],
)
def test_a_chunk_that_pydantic_cannot_read_is_read_all_the_same(data: str) -> None:
    text = json.dumps(examples.EVENTS["chunk"] | {"data": "DATA"}).replace('"DATA"', data)
    assert isinstance(parse_event(text), Chunk)
    with pytest.raises(ValueError, match="Invalid JSON"):
        parse_event(text[:-1])


def test_events_and_results_do_not_show_the_answer() -> None:
    chunk = parse_event(json.dumps(examples.EVENTS["chunk"] | {"data": PROMPT}))
    result = Result.model_validate(
        examples.RESULT | {"response": PROMPT, "metadata": {"a": PROMPT}}
    )
    assert PROMPT not in f"{chunk!r} {chunk} {result!r} {result}"
    with pytest.raises(ValidationError) as caught:
        Result.model_validate_json(json.dumps({"response": PROMPT}))
    assert PROMPT not in str(caught.value)


# --- results and errors -----------------------------------------------------------------------


def test_a_result_and_a_status_are_read_as_they_were_written() -> None:
    result = Result.model_validate_json(json.dumps(examples.RESULT))
    assert json.loads(result.model_dump_json(exclude_unset=True)) == examples.RESULT
    status = Status.model_validate_json(json.dumps(examples.STATUS))
    assert json.loads(status.model_dump_json(exclude_unset=True)) == examples.STATUS


def test_tokens_that_nobody_reported_are_null_and_never_0() -> None:
    usage = Usage(provenance="unavailable")
    assert set(usage.model_dump(exclude={"provenance"}).values()) == {None}


def test_every_error_code_has_its_sentence() -> None:
    assert set(MEANINGS) == set(ErrorCode)
    for text in MEANINGS.values():
        assert re.fullmatch(r"[A-Z].*\.", text)
    assert len(set(MEANINGS.values())) == len(MEANINGS)


def test_a_task_that_failed_is_raised_with_its_error() -> None:
    error = TaskError.model_validate(examples.ERRORS["rate_limited"])
    failed = TaskFailed(error)
    assert failed.error is error
    assert str(failed) == f"rate_limited: {error.message}"


def test_an_invalid_task_has_field_and_reason() -> None:
    error = InvalidTask("request.model", "is required")
    assert (error.field, error.reason) == ("request.model", "is required")
    assert str(error) == "request.model: is required"
