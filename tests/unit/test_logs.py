"""What a log line says, and what it can never say."""

from __future__ import annotations

import asyncio
import gc
import importlib
import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from celery.app.trace import LOG_FAILURE
from celery.utils.log import get_task_logger
from opentelemetry.util.re import parse_env_headers

from api_contracts.errors import ErrorCode
from api_contracts.names import State
from worker.logs import change, origin, setup

#: By its name, since celery-types leaves its templates out.
consumer = importlib.import_module("celery.worker.consumer.consumer")
PROMPT = "my secret prompt"
TASK_ID = "0b9dfb28-3f0f-4ac5-9d1c-6a9f7e5f2f10"


@pytest.fixture(autouse=True)
def _own_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `setup` have the root logger, and give pytest its handlers back."""
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    yield
    root.setLevel(level)


def lines_of(form: Literal["console", "json"]) -> io.StringIO:
    stream = io.StringIO()
    setup(form, stream)
    return stream


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    written: dict[str, Any] = json.loads(line)
    return written


def test_a_state_change_is_one_json_object_with_what_is_known_of_the_task() -> None:
    stream = lines_of("json")
    change(
        State.RETRYING, task_id=TASK_ID, attempt=2, vendor="auto", model="gpt-4o",
        request_id=None, code=ErrorCode.RATE_LIMITED, status=429, delay_ms=1500,
    )  # fmt: skip
    line = only_line(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("at"))
    assert line == {
        "level": "info",
        "logger": "worker",
        "message": "retrying",
        "task_id": TASK_ID,
        "attempt": 2,
        "vendor": "auto",
        "model": "gpt-4o",
        "code": "rate_limited",
        "status": 429,
        "delay_ms": 1500,
    }


def test_for_people_it_is_one_line_of_keys_and_values() -> None:
    stream = lines_of("console")
    change(State.COMPLETED, task_id=TASK_ID, attempt=1, model="my model", seconds=1.25)
    at, _, rest = stream.getvalue().partition(" ")
    assert at.endswith("Z")
    assert rest.startswith(f"info    worker completed task_id={TASK_ID} attempt=1 ")
    assert rest.endswith(' model="my model" seconds=1.25\n')


class Writes(io.StringIO):
    """A stream that remembers its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def write(self, text: str) -> int:
        self.seen.append(text)
        return super().write(text)


def states(text: str) -> list[str]:
    return [json.loads(line)["message"] for line in text.splitlines()]


def test_the_lines_of_one_turn_of_a_loop_are_one_write_and_in_order() -> None:
    stream = Writes()
    setup("json", stream)

    async def turns() -> None:
        change(State.RUNNING)
        change(State.RETRYING)
        assert not stream.seen
        await asyncio.sleep(0)
        change(State.COMPLETED)

    asyncio.run(turns())
    assert list(map(states, stream.seen)) == [["running", "retrying"], ["completed"]]


def test_a_warning_is_written_at_once_behind_what_came_before() -> None:
    stream = Writes()
    setup("json", stream)

    async def turn() -> None:
        change(State.RUNNING)
        change(State.FAILED)
        assert list(map(states, stream.seen)) == [["running", "failed"]]

    asyncio.run(turn())
    assert len(stream.seen) == 1


def test_a_line_of_another_thread_is_written_at_once_behind_what_came_before() -> None:
    stream = Writes()
    setup("json", stream)

    async def turn() -> None:
        change(State.RUNNING)
        other = threading.Thread(target=change, args=(State.COMPLETED,))
        other.start()
        other.join()
        assert list(map(states, stream.seen)) == [["running", "completed"]]

    asyncio.run(turn())


def test_a_loop_that_is_left_in_the_middle_of_a_turn_loses_no_line() -> None:
    program = """
import asyncio, sys
from api_contracts.names import State
from worker.logs import change, setup
setup("json", sys.stdout)
async def turn():
    change(State.RUNNING)
    sys.exit(3)
asyncio.run(turn())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, text=True, timeout=60
    )
    assert (ended.returncode, states(ended.stdout)) == (3, ["running"])


def test_a_stream_that_cannot_be_written_to_ends_nobodys_work(
    capfd: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    setup("json", stream)
    stream.close()

    async def turn() -> None:
        change(State.RUNNING)
        change(State.FAILED, model=PROMPT)
        await asyncio.sleep(0)

    asyncio.run(turn())
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "a line could not be written: ValueError"
    assert PROMPT not in line


def test_a_moment_is_told_in_utc() -> None:
    stream = lines_of("json")
    record = logging.LogRecord("worker", logging.INFO, __file__, 1, "x", None, None)
    record.created = 1_893_456_000.5
    logging.getLogger("worker").handle(record)
    assert only_line(stream)["at"] == "2030-01-01T00:00:00.500Z"


@pytest.mark.parametrize("state", list(State))
def test_a_failed_task_is_a_warning_and_every_other_state_is_not(state: State) -> None:
    stream = lines_of("json")
    change(state, task_id=TASK_ID)
    assert only_line(stream)["level"] == ("warning" if state is State.FAILED else "info")


def test_nothing_that_a_task_brings_can_forge_a_second_line() -> None:
    stream = lines_of("console")
    change(State.FAILED, task_id=TASK_ID, model="m\n2030 info worker completed\x1b[2J\u2028x")
    logging.getLogger("worker").info("dropped: %s", "a\r\nb\x1b[2J\u2028c")
    state, dropped = stream.getvalue().split("\n")[:-1]
    assert r'model="m\n2030 info worker completed\u001b[2J\u2028x"' in state
    assert dropped.endswith(r"dropped: a\r\nb\x1b[2J\u2028c")


def test_a_long_text_is_cut() -> None:
    stream = lines_of("json")
    change(State.RUNNING, task_id=TASK_ID, model="m" * 5000)
    assert only_line(stream)["model"] == "m" * 128


def broken() -> Exception:
    """Return an error that was raised while another was handled; both quote the prompt."""

    def breaks() -> None:
        try:
            int(PROMPT)
        except ValueError as error:
            raise LookupError(PROMPT) from error

    with pytest.raises(LookupError) as caught:
        breaks()
    return caught.value


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_written_as_its_types_and_places_without_its_words(
    form: Literal["console", "json"],
) -> None:
    stream = lines_of(form)
    logging.getLogger("worker").error("it broke", exc_info=broken())
    written = stream.getvalue()
    assert PROMPT not in written
    assert written.index("ValueError") < written.index("LookupError")
    assert written.count("test_logs.py") == 3
    assert "in breaks" in written


def test_what_was_handled_on_purpose_is_not_told() -> None:
    stream = lines_of("json")
    try:
        try:
            int(PROMPT)
        except ValueError:
            raise ArithmeticError from None
    except ArithmeticError:
        logging.getLogger("worker").exception("it broke")
    assert "ValueError" not in only_line(stream)["exception"]


def test_the_origin_of_an_exception_is_its_type_and_its_place() -> None:
    assert re.fullmatch(r"LookupError at .*test_logs\.py:\d+", origin(broken()))
    assert origin(ValueError(PROMPT)) == "ValueError"


@pytest.mark.parametrize(
    ("template", "arguments", "message"),
    [
        (
            consumer.UNKNOWN_TASK_ERROR,
            ("router.chat", PROMPT, {"argsrepr": PROMPT}, {}),
            "Received unregistered task of type (not shown).",
        ),
        (
            consumer.INVALID_TASK_ERROR,
            (PROMPT, PROMPT),
            "Received invalid task message: (not shown)",
        ),
        (
            consumer.MESSAGE_DECODE_ERROR,
            (PROMPT, "json", "utf-8", {"argsrepr": PROMPT}, PROMPT),
            (
                "Can't decode message body: (not shown) "
                "[type:(not shown) encoding:(not shown) headers:(not shown)]"
            ),
        ),
        (
            consumer.UNKNOWN_FORMAT,
            (PROMPT,),
            "Received and deleted unknown message.  Wrong destination?!?",
        ),
    ],
)
def test_celery_does_not_quote_a_message_that_it_cannot_take(
    template: str, arguments: tuple[object, ...], message: str
) -> None:
    stream = lines_of("json")
    consumer.logger.error(template, *arguments)
    assert only_line(stream)["message"] == message


def test_celery_still_says_which_broker_it_cannot_reach() -> None:
    stream = lines_of("json")
    consumer.logger.error(consumer.CONNECTION_ERROR, "redis://host:6379/0", "refused", "Again.")
    assert "Cannot connect to redis://host:6379/0: refused" in only_line(stream)["message"]


@pytest.mark.parametrize("form", ["console", "json"])
def test_line_breaks_that_a_library_ends_its_message_with_are_not_shown(
    form: Literal["console", "json"],
) -> None:
    stream = lines_of(form)
    consumer.logger.error(consumer.CONNECTION_ERROR, "redis://host:6379/0", "refused", "Again.")
    assert re.search(r'Again\."?\}?\n$', stream.getvalue())


def test_celery_does_not_quote_the_exception_of_a_task() -> None:
    stream = lines_of("json")
    context = {
        "id": TASK_ID, "name": "router.chat", "description": "raised unexpected", "exc": PROMPT,
        "args": PROMPT,
    }  # fmt: skip
    logger = logging.getLogger("celery.app.trace")
    logger.error(LOG_FAILURE.strip(), context, exc_info=broken(), extra={"data": context})
    assert PROMPT not in stream.getvalue()
    message = only_line(stream)["message"]
    assert message == f"Task router.chat[{TASK_ID}] raised unexpected: (not shown)"


def test_asyncio_does_not_quote_the_exception_that_nobody_fetched() -> None:
    gc.collect()  # what tests before this one have left says so now
    stream = lines_of("json")

    async def fails() -> None:
        raise ValueError(PROMPT)

    async def forgets() -> None:
        await asyncio.wait({asyncio.ensure_future(fails())})

    asyncio.run(forgets())
    gc.collect()
    assert PROMPT not in stream.getvalue()
    line = only_line(stream)
    assert line["message"] == "Task exception was never retrieved"
    assert line["exception"].endswith("ValueError")


def test_opentelemetry_does_not_quote_a_header_that_may_be_a_key() -> None:
    stream = lines_of("json")
    parse_env_headers(f"authorization {PROMPT}", liberal=True)
    assert PROMPT not in stream.getvalue()
    assert only_line(stream)["message"].endswith("(not shown)")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_line_that_cannot_be_written_says_so_and_not_what_was_in_it(
    capfd: pytest.CaptureFixture[str], form: Literal["console", "json"]
) -> None:
    lines_of(form)
    logging.getLogger("library").error("%d words", PROMPT)
    (line,) = capfd.readouterr().err.splitlines()
    assert "a line could not be written: TypeError" in line
    assert "library" in line
    assert PROMPT not in line


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("celery.worker", ["info", "warning"]),
        ("kombu.connection", ["info", "warning"]),
        ("httpx", ["warning"]),
        ("celery.worker.strategy", ["warning"]),
        ("celery.app.trace", ["warning"]),
    ],
)
def test_other_loggers_end_in_the_same_handler_but_those_that_repeat_every_call_are_quiet(
    name: str, levels: list[str]
) -> None:
    stream = lines_of("json")
    logging.getLogger(name).info("hello")
    logging.getLogger(name).warning("hello")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == levels


def test_the_logger_of_a_celery_task_writes_once() -> None:
    stream = lines_of("json")
    get_task_logger("anything").info("hello")
    assert only_line(stream)["message"] == "hello"


def test_debug_lines_which_may_show_arguments_are_not_written() -> None:
    stream = lines_of("console")
    logging.getLogger("celery.pool").debug("TaskPool: Apply %s", PROMPT)
    assert stream.getvalue() == ""


def test_a_second_setup_replaces_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    first = lines_of("console")
    setup("console")
    logging.getLogger("worker").info("hello")
    sys.stderr.flush()
    assert first.getvalue() == ""
    assert capfd.readouterr().err.count("hello") == 1
