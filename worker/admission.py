"""Which messages Celery may see. Pure.

kombu trusts what it pops. Of 28 messages that no Celery producer sends, 13 ended a worker of
Celery 5.7 and each next one after it, and one without an id made it reconnect without end. So
every message is read here first, and what is none for a task of ours is turned away: answered
where its producer looks, as far as it says where that is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from api_contracts import jsontext
from api_contracts.names import CeleryTask
from api_contracts.requests import BODY_LIMIT, CELERY_TASKS
from worker.intake import Doorbell, Foreign, is_task_id, read_message

#: Largest message, in bytes: the largest body in base64 is two thirds of it, so that a body that
#: is somewhat too large is still answered where its producer looks. Longer ones are not read.
MESSAGE_LIMIT: Final = 2 * BODY_LIMIT
#: Most that is read beside the body of a message that is too large, in bytes; Celery's own
#: producers write about 1 KiB.
HEAD_LIMIT: Final = 64 * 1024
#: As much of the body of a message from AMQP as is written for people, in bytes.
WRITTEN_LIMIT: Final = 32 * 1024
#: Headers that make Celery wait for, drop or unpack a message, and what to say instead.
_REFUSED_HEADERS: Final = {
    "eta": "let the producer wait",
    "expires": "set options.expires_at in the task",
    "compression": "send it as it is",
}
#: Longest id of a message, in characters.
_ID_LIMIT: Final = 255
_KINDS: Final = {str(name): kind for kind, name in CELERY_TASKS.items()}
_BODY: Final = re.compile(rb'"body"\s*:\s*"[A-Za-z0-9+/=]*"')


@dataclass(frozen=True, slots=True)
class Place:
    """Where a producer looks for an answer: the task's id, or else the message's own."""

    task_id: str
    kind: str


class NotAMessage(ValueError):
    """A message that is none of ours; the text says why, and never quotes it."""

    #: Where to say so; None where the message does not tell.
    place: Place | None = None


class Content(NamedTuple):
    """A message as it comes by AMQP: what its properties say, and its body."""

    content_type: object
    content_encoding: object
    headers: Mapping[Any, Any]
    body: bytes

    @property
    def written(self) -> bytes:
        """The message as it would stand on Redis, for people to look at: its beginning."""
        try:
            headers: object = _plain(self.headers)
        except NotAMessage as error:
            headers = str(error)
        body = base64.b64encode(self.body[:WRITTEN_LIMIT]).decode()
        return json.dumps(_message(self, headers) | {"body": body}).encode()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message that Celery may see."""

    #: As kombu has it on Redis; without its body, where it came by AMQP.
    message: dict[str, Any]
    arguments: list[Any]
    keywords: dict[str, Any]
    content: Content | None = None

    @property
    def is_doorbell(self) -> bool:
        """Whether it carries the id of a task on record, and no task."""
        return len(self.arguments) == 1 and is_task_id(self.arguments[0])

    @property
    def text(self) -> bytes:
        """It as it came, but for how its JSON is laid out, and for where it came from."""
        return json.dumps(self.message).encode() if self.content is None else self.content.written


def admit(item: bytes, queue: str) -> Admitted:
    """Read a message as kombu keeps it in this queue on Redis.

    NotAMessage where it is to be turned away.
    """
    message: dict[str, Any] = {}
    try:
        if len(item) > MESSAGE_LIMIT:
            message = _head(item)
            raise _too_large(len(item))
        message = _mapping(_loaded(item, "message"), "message")
        _check(message)
        _check_properties(_mapping(message.get("properties"), "properties"))
        arguments, keywords = _called(_decoded(message.get("body")))
    except NotAMessage as error:
        error.place = _place(message, lambda: _decoded(message.get("body")))
        raise
    # What it says of that is its producer's: it would stand in logs and metrics, and it would go
    # back there.
    message["properties"]["delivery_info"] = {"exchange": "", "routing_key": queue}
    return Admitted(message, arguments, keywords)


def admit_content(content: Content) -> Admitted:
    """Read a message as it comes by AMQP. NotAMessage where it is to be turned away."""
    message: dict[str, Any] = {}
    try:
        message = _message(content, _plain(content.headers))
        if len(content.body) > MESSAGE_LIMIT:
            raise _too_large(len(content.body))
        _check(message)
        arguments, keywords = _called(content.body)
    except NotAMessage as error:
        small = content.body if len(content.body) <= MESSAGE_LIMIT else b""
        error.place = _place(message, lambda: small)
        raise
    return Admitted(message, arguments, keywords, content)


def _message(content: Content, headers: object) -> dict[str, Any]:
    return {
        "content-type": content.content_type,
        "content-encoding": content.content_encoding,
        "headers": headers,
    }


def _plain(headers: Mapping[Any, Any]) -> dict[str, Any]:
    """Write headers as JSON has them: those of AMQP may have bytes, decimals and moments, too."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(headers, default=str, skipkeys=True))
    except (ValueError, RecursionError):
        raise NotAMessage("its headers are not JSON") from None
    return plain


def _too_large(size: int) -> NotAMessage:
    return NotAMessage(f"has {size} bytes; at most {MESSAGE_LIMIT} are taken")


def _check(message: dict[str, Any]) -> None:
    """Check what stands beside the body, but for what only Redis has there."""
    try:
        jsontext.check(message)
    except ValueError as error:
        raise NotAMessage(f"its message {error}") from None
    for name, value in (("content-type", "application/json"), ("content-encoding", "utf-8")):
        if message.get(name) != value:
            raise NotAMessage(f"its {name} is not {value}")
    _check_headers(_mapping(message.get("headers"), "headers"))


def _check_headers(headers: dict[str, Any]) -> None:
    if headers.get("task") not in tuple(CeleryTask):
        raise NotAMessage(f"its header task is none of {', '.join(CeleryTask)}")
    _check_word(headers.get("id"), "header id")
    for name, advice in _REFUSED_HEADERS.items():
        if headers.get(name) is not None:
            raise NotAMessage(f"it has the header {name}; {advice}")
    if headers.get("timelimit") not in (None, [None, None]):
        raise NotAMessage("it has the header timelimit; set options.deadline in the task")


def _check_properties(properties: dict[str, Any]) -> None:
    _check_word(properties.get("delivery_tag"), "property delivery_tag")
    if properties.get("body_encoding") != "base64":
        raise NotAMessage("its property body_encoding is not base64")
    where = _mapping(properties.get("delivery_info"), "property delivery_info")
    if not all(isinstance(where.get(name), str) for name in ("exchange", "routing_key")):
        raise NotAMessage("its property delivery_info lacks exchange or routing_key")


def _decoded(body: object) -> bytes:
    try:
        return base64.b64decode(body, validate=True) if isinstance(body, str) else b""
    except (binascii.Error, ValueError):
        raise NotAMessage("its body is not base64") from None


def _called(body: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Read arguments and keywords of a call that asks for nothing else."""
    arguments, keywords, embedded = _parts(body)
    if embedded and any(embedded.values()):
        raise NotAMessage("it asks for a chain or a callback; read the task's channel instead")
    return arguments, keywords


def _parts(body: bytes) -> list[Any]:
    """Read a body: ``[arguments, keywords, embedded]``, as protocol 2 has it."""
    parts = _loaded(body, "body")
    if not (
        isinstance(parts, list)
        and [type(part) for part in parts] in ([list, dict, dict], [list, dict, type(None)])
    ):
        raise NotAMessage("its body is not a list of arguments, keywords and the embedded")
    return parts


def _place(message: dict[str, Any], body: Callable[[], bytes]) -> Place | None:
    """Tell where the producer of a message looks; None for a doorbell, which has a record."""
    headers = message.get("headers")
    name, message_id = map((headers if isinstance(headers, dict) else {}).get, ("task", "id"))
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        return None
    try:
        arguments, keywords, _ = _parts(body())
    except NotAMessage:
        return Place(str(message_id), kind) if is_task_id(message_id) else None
    said = read_message(kind, tuple(arguments), keywords, message_id)
    if isinstance(said, Doorbell):
        return None
    task_id = said.task.id if isinstance(said, Foreign) else said.task_id
    return Place(task_id, kind) if task_id else None


def _head(item: bytes) -> dict[str, Any]:
    """Read what stands beside the body of a message that is too large, if that is not too much."""
    rest = _BODY.sub(b'"body":""', item, 1)
    return _mapping(_loaded(rest, "message"), "message") if len(rest) <= HEAD_LIMIT else {}


def _loaded(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NotAMessage(f"its {what} is not JSON") from None


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotAMessage(f"its {what} is no JSON object")
    return value


def _check_word(value: object, what: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _ID_LIMIT:
        raise NotAMessage(f"its {what} is no text of 1 to {_ID_LIMIT} characters")
    if not value.isprintable():
        # Half a character is not either.
        raise NotAMessage(f"its {what} has what cannot be printed")
