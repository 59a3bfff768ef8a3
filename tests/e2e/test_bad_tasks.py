"""Tasks of producers that we have never seen: each wrong one is refused where it is looked for."""

import base64
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.errors import InvalidTask
from api_contracts.requests import CELERY_TASKS
from tests.parts.bad_tasks import BAD
from tests.parts.following import KEYS, Ear, ended, error_of, result_of, until_over
from tests.parts.foreign import letters_of
from tests.parts.gate import Gate, whole
from tests.parts.tasks import GEMINI, PNG, PROMPT, chat, image, native
from tests.parts.wait import until
from tests.parts.worker import Worker

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})


@pytest.fixture
def producer(redis_url: str) -> Iterator[celery.Celery]:
    """A program that knows Celery and our contract, and nothing of our code."""
    app = celery.Celery("stranger", broker=redis_url, set_as_current=False)
    app.conf.update(task_default_queue="router.interactive", task_ignore_result=True)
    yield app
    app.close()


def _send(producer: celery.Celery, task: Any, kind: str = "chat", message_id: str = "") -> str:
    """Send a task as the one argument of a message; return the message's id."""
    message_id = message_id or str(uuid.uuid4())
    producer.send_task(
        CELERY_TASKS[kind], args=[task], task_id=message_id, queue="router.interactive"
    )
    return message_id


def _kind_of(task: Any) -> str:
    kind = task.get("kind") if isinstance(task, dict) else None
    return kind if isinstance(kind, str) and kind in CELERY_TASKS else "chat"


_LARGE = "data:image/png;base64," + base64.b64encode(PNG + bytes(20 * 1024 * 1024)).decode()
#: The rows: what is wrong, the task, and what the refusal begins with: the field.
ROWS: list[tuple[str, Any, str | tuple[str, ...]]] = [
    ("text that is not JSON", "{not json", "task"),
    ("JSON that is no object", "[1, 2]", "task"),
    ("no object at all", 17, "task"),
    ("a wrong type", chat(temperature="hot"), "request.temperature"),
    ("no model", {"kind": "chat", "request": {"messages": [{"role": "user"}]}}, "request.model"),
    ("no messages", chat(messages=[]), "request.messages"),
    ("a parameter out of range", chat(temperature=2.1), "request.temperature"),
    ("five stops", chat(stop=["a"] * 5), "request.stop"),
    *(
        (name, image(url), "request.messages.0.content.1.image_url.url")
        for name, url in [
            ("an image that is none", "data:image/png;base64,aGVsbG8gd29ybGQ="),
            ("an image that is too large", _LARGE),
            ("a file as image", "file:///etc/passwd"),
            ("a private address as image", "https://169.254.169.254/latest/meta-data"),
            ("a hidden private address as image", "https://0x7f.1/a.png"),
        ]
    ),
    ("a path to another host", native("https://evil.example/v1/x"), "path"),
    ("a path that climbs", native("/v1/../admin"), "path"),
    ("a path that climbs in disguise", native("/v1/%2e%2e/admin"), "path"),
    ("a path that is not allowed", native("/v2/chat"), "path"),
    ("a header with a line break", chat() | {"headers": {"x-a": "b\r\nhost: c"}}, "headers"),
    ("a header for authorization", chat() | {"headers": {"Authorization": "mine"}}, "headers"),
    ("a body over the limit", chat(x="x" * (32 * 1024 * 1024)), "request"),
    ("what JSON has no word for", chat(x=float("nan")), ("request", "task: is not JSON")),
    ("half a character", chat(x="\ud83d"), "request"),
    (
        "a deadline in the past",
        chat() | {"options": {"deadline": int(time.time() * 1000) - 1}},
        "options.deadline",
    ),
    ("another kind's task", chat() | {"kind": "vision"}, "kind"),
    ("a stream of what cannot be streamed", native("/v1/embeddings", options={"stream": True}), ""),
]


@pytest.mark.parametrize("as_text", [False, True], ids=["as-object", "as-text"])
@pytest.mark.parametrize(("name", "task", "field"), [pytest.param(*r, id=r[0]) for r in ROWS])
def test_a_task_that_breaks_the_contract_fails_where_it_is_looked_for(  # noqa: PLR0913, PLR0917
    gate: Gate, redis: redis_library.Redis, producer: celery.Celery,
    name: str, task: Any, field: str | tuple[str, ...], *, as_text: bool,
) -> None:  # fmt: skip
    sent = json.dumps(task) if as_text and not isinstance(task, str) else task
    kind = "chat" if field == "kind" else _kind_of(task)
    with Ear(redis) as ear:
        task_id = _send(producer, sent, kind)
        heard = ear.until_ended(task_id, within=30)
    error = error_of(redis, task_id)
    assert heard[-1]["error"] == error
    assert (error["code"], error["retryable"], error["attempts"]) == ("invalid_request", False, 0)
    assert error["message"].startswith(field)
    assert "retrying" not in [event["type"] for event in heard]
    assert 0 < redis.ttl(KEYS.record(task_id)) <= 86_400
    until_over(redis, task_id)
    assert gate.requests == []


def test_every_task_of_the_contracts_own_table_is_refused_and_the_worker_goes_on(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis, producer: celery.Celery
) -> None:
    # Wrong ids and kinds have tests of their own, and a text is read as JSON here.
    rows = [row for row in BAD if row.field not in ("id", "kind") and row.task != PROMPT]
    sent = [(row, _send(producer, row.task, _kind_of(row.task))) for row in rows]
    for row, task_id in sent:
        error = error_of(redis, task_id, within=30)
        assert (row.name, error["code"]) == (row.name, "invalid_request")
        assert error["message"].startswith(f"{row.field}: "), row.name
        assert row.reason in error["message"], row.name
        assert PROMPT not in error["message"], row.name
    assert gate.requests == []
    assert PROMPT not in worker.output
    gate.answer(GOOD)
    result_of(redis, client.enqueue(chat()).id)


@pytest.mark.parametrize("bad_id", [None, 7, "", [], "0B6F0C1E-5D2A-4C0E-9A53-0D7F5A1B2C3D"])
def test_a_task_with_a_bad_id_is_refused_under_its_messages(
    gate: Gate, redis: redis_library.Redis, producer: celery.Celery, bad_id: Any
) -> None:
    error = error_of(redis, _send(producer, chat() | {"id": bad_id}))
    assert error["message"].startswith("id: must be a UUID")


def test_a_task_is_refused_under_its_own_id_where_it_has_one(
    gate: Gate, redis: redis_library.Redis, producer: celery.Celery
) -> None:
    own = str(uuid.uuid4())
    message = _send(producer, chat(temperature=9) | {"id": own})
    assert error_of(redis, own)["message"].startswith("request.temperature")
    assert redis.exists(KEYS.record(message)) == 0


def test_an_id_that_exists_is_refused_and_its_task_is_left_alone(
    gate: Gate, client: Client, redis: redis_library.Redis, producer: celery.Celery
) -> None:
    gate.answer(GOOD)
    known = client.enqueue(chat()).id
    before = (result_of(redis, known), ended(redis, known))
    message = _send(producer, chat(temperature=1) | {"id": known})
    error = error_of(redis, message)
    assert error["code"] == "invalid_request"
    assert error["message"].startswith(f"id: a different task {known} already exists")
    # Nor under the message's id, where that is the same.
    _send(producer, chat(temperature=1), message_id=known)
    _send(producer, chat(temperature=9), message_id=known)
    gate.answer(GOOD)
    result_of(redis, _send(producer, chat()))
    assert (result_of(redis, known), ended(redis, known)) == before
    assert len(gate.requests) == 2


def test_the_same_task_sent_twice_is_run_once(
    gate: Gate, redis: redis_library.Redis, producer: celery.Celery
) -> None:
    task = chat() | {"id": str(uuid.uuid4())}
    gate.answer(GOOD, GOOD)
    for _ in range(3):
        _send(producer, task)
    result_of(redis, task["id"])
    result_of(redis, _send(producer, chat()))
    assert len(gate.requests) == 2


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [([], {}), ([chat(), 1], {}), ([], {"task": chat()}), ([chat()], {"a": 1})],
)
def test_a_message_with_other_arguments_is_refused(
    gate: Gate, redis: redis_library.Redis, producer: celery.Celery,
    arguments: list[Any], keywords: Json,
) -> None:  # fmt: skip
    message = str(uuid.uuid4())
    producer.send_task("router.chat", args=arguments, kwargs=keywords, task_id=message)
    assert "one positional argument" in error_of(redis, message)["message"]


def test_a_message_whose_id_is_none_is_parked_and_the_worker_goes_on(
    gate: Gate, redis: redis_library.Redis, producer: celery.Celery
) -> None:
    _send(producer, chat(temperature=9), message_id="order-17")
    _send(producer, "{not json", message_id="rw:{x}")
    gate.answer(GOOD)
    result_of(redis, _send(producer, chat()))
    assert [key for key in redis.scan_iter() if b"order-17" in key or b"{x}" in key] == []
    letters = until(lambda: letters_of(redis, 2), "two dead letters")
    assert {json.loads(letter[b"error"])["message"] for letter in letters} == {
        "id: must be a UUID in lower-case, such as 0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d",
        "task: is not JSON",
    }
    assert {json.loads(letter[b"message"])["headers"]["id"] for letter in letters} == {
        "order-17",
        "rw:{x}",
    }


def test_our_own_client_sends_no_task_whose_deadline_is_past(
    client: Client, redis: redis_library.Redis
) -> None:
    with pytest.raises(InvalidTask, match=r"options\.deadline: is in the past"):
        client.enqueue(chat() | {"options": {"deadline": int(time.time() * 1000) - 1}})
    # The worker writes of itself at any moment; of a task there is nothing.
    assert redis.keys("rw:{*") == []
    assert redis.exists(KEYS.due, "router.interactive", "router.batch") == 0


def test_a_gemini_model_may_not_leave_its_path(
    gate: Gate, redis: redis_library.Redis, producer: celery.Celery
) -> None:
    for path in (f"{GEMINI}/../../x:generateContent", f"{GEMINI}@evil.example:generateContent"):
        assert error_of(redis, _send(producer, native(path), "native"))["message"][:4] == "path"
    assert gate.requests == []
