"""Schemas of what our messages travel in: Celery's envelope, the log's entry, the record. Pure."""

from __future__ import annotations

from typing import Any, Final

from api_contracts.names import EVENT_FIELD, CeleryTask, Queue, State
from api_contracts.schema import examples

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_JSON_TEXT: Final[Schema] = {"type": "string", "contentMediaType": "application/json"}
#: A number as Redis keeps it in a hash.
_DIGITS: Final[Schema] = {"type": "string", "pattern": "^[0-9]{1,18}$"}


def schemas(reference: str) -> dict[str, Schema]:
    """Return each schema by its name; ``reference`` is the template of the contract's own."""
    task = {"$ref": reference.format(model="Task")}
    task_id: Schema = {"type": "string", "format": "uuid"}
    doorbell = {"description": "The id of a task that is on record.", **task_id}
    headers = {"$ref": reference.format(model="CeleryHeaders")}
    return {
        "CeleryHeaders": _celery_headers(),
        "TaskBody": _celery_body("A task, whole. The worker writes its record.", task),
        "CancelledId": {"description": "The id of a task that was cancelled.", **task_id},
        "DoorbellBody": _celery_body("A doorbell: the record tells the rest.", doorbell),
        "KombuMessage": _kombu_message(headers),
        "LogEntry": _log_entry(),
        "Record": _record(),
    }


def _celery_headers() -> Schema:
    return {
        "title": "CeleryHeaders",
        "description": "Headers of a Celery message (protocol 2); others are allowed.",
        "type": "object",
        "required": ["task", "id"],
        "properties": {
            "task": {"enum": [task.value for task in CeleryTask]},
            "id": {"description": "Celery's own id of the message.", "type": "string"},
            "lang": _TEXT,
            "rung_at": {
                "description": "When the doorbell was rung, in unix ms. By the oldest one that "
                "waits, workers tell a lost doorbell from a long queue.",
                "type": "integer",
            },
        },
    }


def _celery_body(text: str, argument: Schema) -> Schema:
    """Describe ``[args, kwargs, embed]`` with one positional argument."""
    return {
        "description": f"{text} Celery's body: arguments, keyword arguments, and workflow.",
        "type": "array",
        "minItems": 3,
        "maxItems": 3,
        "items": [
            {"type": "array", "minItems": 1, "maxItems": 1, "items": argument},
            {"type": "object", "maxProperties": 0},
            {"type": "object"},
        ],
    }


def _kombu_message(headers: Schema) -> Schema:
    return {
        "title": "KombuMessage",
        "description": "A Celery message as it lies in a queue on Redis.",
        "type": "object",
        "required": ["body", "content-encoding", "content-type", "headers", "properties"],
        "properties": {
            "body": {"description": "TaskBody or DoorbellBody, in base64.", **_TEXT},
            "content-encoding": {"const": "utf-8"},
            "content-type": {"const": "application/json"},
            "headers": headers,
            "properties": {
                "type": "object",
                "required": ["body_encoding", "delivery_info", "delivery_tag"],
                "properties": {
                    "body_encoding": {"const": "base64"},
                    "delivery_info": {
                        "type": "object",
                        "required": ["exchange", "routing_key"],
                        "properties": {
                            "exchange": _TEXT,
                            "routing_key": {"enum": [queue.value for queue in Queue]},
                        },
                    },
                    "delivery_mode": {"type": "integer"},
                    "delivery_tag": {"description": "Unique to the message.", **_TEXT},
                    "priority": {"type": "integer"},
                },
            },
        },
        "examples": [examples.KOMBU_MESSAGE],
    }


def _log_entry() -> Schema:
    return {
        "title": "LogEntry",
        "description": "An entry of the stream. Its id is the event's.",
        "type": "object",
        "required": [EVENT_FIELD],
        "properties": {EVENT_FIELD: {"description": "The schema Event, as JSON.", **_JSON_TEXT}},
    }


def _record() -> Schema:
    moment = {"description": "Unix time in milliseconds.", **_DIGITS}
    return {
        "title": "Record",
        "description": "The fields of a record that others may read. Further ones are the "
        "workers' own. See the schema Status for what each means.",
        "type": "object",
        "required": ["state"],
        "properties": {
            "kind": {"enum": ["chat", "vision", "native"]},
            "state": {"enum": [state.value for state in State]},
            "attempt": _DIGITS,
            "failures": _DIGITS,
            "replays": _DIGITS,
            "created_at": moment,
            "claimed_at": moment,
            "due_at": moment,
            "ended_at": moment,
            "worker": _TEXT,
            "error": {
                "description": "The schema TaskError, as JSON. Where encryption is on, its words "
                "are in `sealed`.",
                **_JSON_TEXT,
            },
            "result": {
                "description": "The schema Result, as JSON; encrypted, where that is on.",
                **_JSON_TEXT,
            },
        },
    }
