"""Which messages Celery may see. Pure.

kombu trusts what it pops. Of 28 messages that no Celery producer sends, 13 ended a worker of
Celery 5.7 and each next one after it, and one without an id made it reconnect without end. So
every message is read here first, and what is none for a task of ours is parked.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from api_contracts.names import CeleryTask
from api_contracts.requests import BODY_LIMIT

#: Largest message, in bytes: the largest body in base64 is two thirds of it, so that a body that
#: is somewhat too large is still answered where its producer looks. Longer ones are not read.
MESSAGE_LIMIT: Final = 2 * BODY_LIMIT
#: Headers that make Celery wait for, drop or unpack a message, and what to say instead.
_REFUSED_HEADERS: Final = {
    "eta": "let the producer wait",
    "expires": "set options.expires_at in the task",
    "compression": "send it as it is",
}
#: Longest id of a message, in characters.
_ID_LIMIT: Final = 255


class NotAMessage(ValueError):
    """A message that is none of ours; the text says why, and never quotes it."""


def admit(item: bytes) -> dict[str, Any]:
    """Read a message as kombu keeps it on Redis; NotAMessage where it is to be parked."""
    if len(item) > MESSAGE_LIMIT:
        raise NotAMessage(f"has {len(item)} bytes; at most {MESSAGE_LIMIT} are taken")
    message = _mapping(_loaded(item, "message"), "message")
    for name, value in (("content-type", "application/json"), ("content-encoding", "utf-8")):
        if message.get(name) != value:
            raise NotAMessage(f"its {name} is not {value}")
    _check_headers(_mapping(message.get("headers"), "headers"))
    _check_properties(_mapping(message.get("properties"), "properties"))
    _check_body(message.get("body"))
    return message


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


def _check_body(body: object) -> None:
    """Check that the body is ``[arguments, keywords, embedded]``, as protocol 2 has it."""
    try:
        text = base64.b64decode(body, validate=True) if isinstance(body, str) else b""
    except (binascii.Error, ValueError):
        raise NotAMessage("its body is not base64") from None
    parts = _loaded(text, "body")
    if not (
        isinstance(parts, list)
        and [type(part) for part in parts] in ([list, dict, dict], [list, dict, type(None)])
    ):
        raise NotAMessage("its body is not a list of arguments, keywords and the embedded")
    if parts[2] and any(parts[2].values()):
        raise NotAMessage("it asks for a chain or a callback; read the task's channel instead")


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
