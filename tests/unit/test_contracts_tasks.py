"""Which tasks are taken, what a refusal says, and that nothing of a body is lost or shown."""

import copy
import json
import math
import uuid
from typing import Any

import pytest
from pydantic import ValidationError

from api_contracts import (
    BODY_LIMIT,
    CELERY_TASKS,
    ChatTask,
    InvalidTask,
    NativeTask,
    Options,
    VisionTask,
    new_id,
    parse_task,
)
from tests.parts.bad_tasks import BAD, Bad
from tests.parts.tasks import GEMINI, GOOD, PROMPT, Json, chat, image, native


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_task_is_refused_by_field_and_reason_without_its_text(bad: Bad) -> None:
    with pytest.raises(InvalidTask) as caught:
        parse_task(bad.task)
    assert caught.value.field == bad.field
    assert bad.reason in caught.value.reason
    assert str(caught.value) == f"{caught.value.field}: {caught.value.reason}"
    assert PROMPT not in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_task_keeps_every_field_of_its_request(name: str) -> None:
    before = copy.deepcopy(GOOD[name])
    task = parse_task(GOOD[name])
    assert GOOD[name] == before
    assert task.request == before["request"]
    assert json.loads(task.request_json()) == before["request"]
    assert list(json.loads(task.request_json())) == list(before["request"])
    assert CELERY_TASKS[task.kind] == f"router.{before['kind']}"


@pytest.mark.parametrize("name", GOOD)
def test_a_task_can_be_written_and_read_again(name: str) -> None:
    task = parse_task(GOOD[name])
    assert parse_task(json.loads(task.model_dump_json())) == task


@pytest.mark.parametrize("name", GOOD)
def test_a_task_shows_its_id_and_nothing_that_it_says(name: str) -> None:
    task = parse_task(GOOD[name])
    assert repr(task) == str(task) == f"{type(task).__name__}(id={task.id!r})"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.5, -0.0, 1e100, True, None]}, '{"b":1,"a":[1.5,-0.0,1e+100,true,null]}'),
        ('é ☃ 😀 \u2028 \x7f \\ " /', '"é ☃ 😀 \u2028 \x7f \\\\ \\" /"'),
        (2**70, "1180591620717411303424"),
    ],
)
def test_a_body_is_compact_json_in_utf_8(value: Any, text: str) -> None:
    body = parse_task(native(request={"x": value})).request_json()
    assert body.decode() == f'{{"x":{text}}}'


def test_a_body_may_have_32_mib_and_no_byte_more() -> None:
    frame = len(native(request={"x": ""})["request"]) + len('{"x":""}') - 1
    fits = parse_task(native(request={"x": "é" * ((BODY_LIMIT - frame) // 2)}))
    assert len(fits.request_json()) == BODY_LIMIT
    with pytest.raises(InvalidTask, match=f"the body has {BODY_LIMIT + 1} bytes; at most"):
        parse_task(native(request={"x": "a" * (BODY_LIMIT - frame + 1)})).request_json()


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}, 10**5000, {1, 2}, b"", object()],
    ids=["nan", "inf", "-inf", "surrogate", "surrogate key", "endless", "set", "bytes", "object"],
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidTask, match=r"^request: holds what JSON cannot say"):
        parse_task(chat(x=value)).request_json()


def test_a_key_that_is_no_string_is_refused() -> None:
    with pytest.raises(InvalidTask, match=r"^request: has a key that is no string$"):
        parse_task(chat(x={"y": {50256: -100}}))


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    bush: list[Any] = []
    bush += [bush] * 50
    for value in (loop, bush):
        with pytest.raises(InvalidTask, match=r"^request: (is nested|has) more than"):
            parse_task(chat(x=value))


def test_a_task_without_an_id_gets_a_random_one() -> None:
    ids = {parse_task(chat()).id for _ in range(100)} | {new_id() for _ in range(100)}
    assert len(ids) == 200
    assert {uuid.UUID(one).version for one in ids} == {4}


def test_an_id_may_be_a_uuid_of_any_version() -> None:
    for one in (uuid.uuid1(), uuid.uuid4(), uuid.uuid5(uuid.NAMESPACE_DNS, "a"), uuid.UUID(int=0)):
        assert parse_task(chat() | {"id": one}).id == str(one)
        assert parse_task(chat() | {"id": str(one)}).id == str(one)


@pytest.mark.parametrize(
    ("task", "kind", "model"),
    [
        (chat(), ChatTask, "m"),
        (image("https://example.com/a.png"), VisionTask, "m"),
        (native(), NativeTask, None),
        (native(request={"model": "claude-3"}), NativeTask, "claude-3"),
        (native(request={"model": ["claude-3"]}), NativeTask, None),
        (native(f"{GEMINI}:generateContent"), NativeTask, "gemini-1.5-pro"),
        (native(f"{GEMINI}:streamGenerateContent?alt=sse"), NativeTask, "gemini-1.5-pro"),
        (native("/v1/models/list"), NativeTask, None),
    ],
)
def test_a_task_knows_its_kind_and_model(task: Json, kind: type, model: str | None) -> None:
    parsed = parse_task(task)
    assert type(parsed) is kind
    assert parsed.model == model


@pytest.mark.parametrize(
    ("task", "streaming"),
    [
        (chat(), False),
        (chat(stream=None), False),
        (chat(stream=False), False),
        (chat(stream=True), True),
        (chat() | {"options": {"stream": True}}, True),
        (chat() | {"options": {"stream": False}}, False),
        (chat(stream=True) | {"options": {"stream": None}}, True),
        (native(), False),
        (native(request={"stream": True}), True),
        (native(request={"stream": 1}), False),
        (native(options={"stream": True}), True),
        (native(f"{GEMINI}:generateContent"), False),
        (native(f"{GEMINI}:streamGenerateContent"), True),
        (native(f"{GEMINI}:streamGenerateContent", options={"stream": True}), True),
    ],
)
def test_a_task_streams_as_its_options_say_or_else_its_request(
    task: Json, *, streaming: bool
) -> None:
    assert parse_task(task).streaming is streaming


def test_a_checked_options_object_is_taken_as_it_is() -> None:
    options = Options(tenant="web")
    assert parse_task(chat() | {"options": options}).options == options


def test_a_task_never_changes() -> None:
    task = parse_task(chat())
    with pytest.raises(ValidationError, match="frozen"):
        task.vendor = "openai"  # type: ignore[misc]


def _replaced(value: Any, by: Any) -> list[Any]:
    """Every way to put something in place of one value or key of a JSON value."""
    found: list[Any] = [by, [by], {by: by}]
    if isinstance(value, dict):
        for key, part in value.items():
            found.append({name: one for name, one in value.items() if name != key} | {by: part})
            found += [value | {key: one} for one in _replaced(part, by)]
    if isinstance(value, list):
        for index, part in enumerate(value):
            before, after = value[:index], value[index + 1 :]
            found += [[*before, one, *after] for one in _replaced(part, by)]
    return found


def _refusals(tasks: list[Any]) -> list[str]:
    refusals = []
    for task in tasks:
        try:
            parse_task(task).request_json()
        except InvalidTask as error:
            refusals.append(str(error))
    return refusals


@pytest.mark.parametrize("name", GOOD)
def test_no_refusal_repeats_a_text_wherever_it_stood(name: str) -> None:
    refusals = _refusals(_replaced(GOOD[name], PROMPT))
    assert len(refusals) > 3
    assert not [one for one in refusals if PROMPT in one or len(one) > 300]


@pytest.mark.parametrize("name", GOOD)
def test_a_number_too_long_to_be_written_is_refused_wherever_it_stood(name: str) -> None:
    """Python makes no text of more than 4300 digits, and raises where it is asked to."""
    tasks = _replaced(GOOD[name], 10**5000)
    assert len(_refusals(tasks)) == len(tasks)
