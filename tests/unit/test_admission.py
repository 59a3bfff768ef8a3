"""Messages as they come by AMQP: which Celery may see, and how the others are kept."""

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.parts.tasks import chat
from worker.admission import (
    MESSAGE_LIMIT,
    WRITTEN_LIMIT,
    Content,
    NotAMessage,
    Place,
    admit_content,
)

ID = "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d"
HEADERS = {"lang": "py", "task": "router.chat", "id": ID}
PLACE = Place(ID, "chat")


def content(**changed: Any) -> Content:
    doorbell = json.dumps([[ID], {}, {}]).encode()
    return Content("application/json", "utf-8", HEADERS, doorbell)._replace(**changed)


def test_a_doorbell_and_a_whole_task_are_admitted_and_told_apart() -> None:
    assert admit_content(content()).is_doorbell
    task = chat() | {"id": str(uuid.uuid4())}
    admitted = admit_content(content(body=json.dumps([[task], {}, None]).encode()))
    assert not admitted.is_doorbell
    assert admitted.arguments == [task]


def test_headers_are_what_json_makes_of_them() -> None:
    more = {"a": b"\xff", "b": Decimal(1), "c": datetime(2026, 1, 1, tzinfo=UTC), b"\xff": 1}
    admitted = admit_content(content(headers=HEADERS | more))
    assert admitted.message["headers"] == HEADERS | {
        "a": r"b'\xff'", "b": "1", "c": "2026-01-01 00:00:00+00:00",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "reason", "place"),
    [
        ({"content_type": None}, "its content-type is not application/json", None),
        ({"content_encoding": "zip"}, "its content-encoding is not utf-8", None),
        ({"headers": {}}, "its header task is none of", None),
        ({"headers": HEADERS | {"expires": "soon"}}, "it has the header expires", None),
        ({"body": b"\xff"}, "its body is not JSON", PLACE),
        ({"body": b"[1]"}, "its body is not a list of", PLACE),
        ({"body": b'[[{}], {}, {"chain": [1]}]'}, "it asks for a chain", PLACE),
        ({"body": b"x" * (MESSAGE_LIMIT + 1)}, f"has {MESSAGE_LIMIT + 1} bytes", PLACE),
    ],
)
def test_what_is_no_message_is_refused_and_answered_where_its_producer_looks(
    changed: dict[str, Any], reason: str, place: Place | None
) -> None:
    """Nowhere, for a doorbell: its task has a record."""
    with pytest.raises(NotAMessage, match=reason) as refused:
        admit_content(content(**changed))
    assert refused.value.place == place


def test_a_message_is_kept_as_people_know_it_from_redis() -> None:
    kept = json.loads(content(body=b'"x"', headers={"a": b"\xff"}).written)
    assert kept == {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"a": r"b'\xff'"},
        "body": "Ingi",
    }
    large = content(body=b"x" * 2 * WRITTEN_LIMIT).written
    assert len(large) < 2 * WRITTEN_LIMIT


def test_headers_that_cannot_be_written_are_told_of() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    broken = content(headers=deep)
    with pytest.raises(NotAMessage, match="its headers are not JSON"):
        admit_content(broken)
    assert json.loads(broken.written)["headers"] == "its headers are not JSON"
