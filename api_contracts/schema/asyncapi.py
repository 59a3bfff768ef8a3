"""Build the AsyncAPI 3.0 document: every queue, channel and key, as its users see them. Pure.

Schemas in it are read as JSON Schema draft-07, which is what AsyncAPI's own dialect extends: a
tuple is written with ``items``.
"""

from __future__ import annotations

from typing import Any, Final

from api_contracts.names import Keys, Queue
from api_contracts.schema import envelopes, examples
from api_contracts.schema.documents import Schema, components

#: Version of the contract, not of the package: it rises when a message changes.
VERSION: Final = "1.0.0"

_JSON: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/{model}"
#: The braces are part of every name: a Redis hash tag. AsyncAPI has braces of its own, so they
#: are part of the parameter here.
_TASK_ID: Final = {
    "description": "The task's id in braces, which are part of the name: `rw:{ID}:live`. They are "
    "a Redis hash tag, so that all keys of one task share a slot.",
    "examples": [f"{{{examples.TASK_ID}}}"],
}
_KEYS: Final = Keys()

_ABOUT: Final = """\
Tasks for language models on Redis, as producers and subscribers see them.

1. Make a task with a UUID of your own as its `id`, and subscribe to its live channel.
2. Put it on a queue: a Celery message with one positional argument, the task as JSON. Any Celery \
client can do it. The Python client writes the record first and sends a doorbell instead: a \
message whose only argument is the task's id.
3. Read the log, then follow the channel. Drop what you have seen; where an id is missing, read \
the log again. Ids read ATTEMPT-SEQ and only rise; an attempt that `resets` makes the chunks \
before it void.
4. After the ending the record keeps the result, for `options.result_ttl` seconds.
5. To cancel a task, run the script `cancel.lua` of the Python client on its record and log.

The prefix `rw` is a setting of the workers. Beside the keys below they keep `rw:due`, `rw:dead` \
and `rw:idem:TENANT:KEY`."""


def document() -> Schema:
    """Return the whole document."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:router-worker:messages",
        "info": {
            "title": "router-worker",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "MIT"},
            "tags": [{"name": "celery"}, {"name": "redis"}, {"name": "llm"}],
        },
        "defaultContentType": _JSON,
        "servers": {"redis": _server()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _server() -> Schema:
    return {
        "host": "127.0.0.1:6379",
        "pathname": "/0",
        "protocol": "redis",
        "description": "Redis or Valkey: broker of the queues, and place of records and events. "
        "The two may be apart (`ROUTER_WORKER_BROKER_URL`, `REDIS_URL`).",
    }


def _channels() -> Schema:
    keys = {
        "live": (
            _KEYS.live,
            "Pub/sub channel of one task: its events as they are appended to the log.",
            list(examples.EVENTS),
        ),
        "log": (
            _KEYS.events,
            "Redis Stream of one task: every event, under its own id ATTEMPT-SEQ.",
            ["logEntry"],
        ),
        "record": (_KEYS.record, "Hash of one task: what it is, and its result.", ["record"]),
    }
    queues = {queue.name.lower(): _queue(queue) for queue in Queue}
    cancel = {
        "address": _KEYS.cancel,
        "description": "Pub/sub channel of all workers: ids of tasks that were cancelled while "
        "they ran. A worker that runs one stops its call.",
        "messages": _references(["cancelledId"]),
    }
    return (
        queues
        | {"cancel": cancel}
        | {
            name: {
                "address": key("taskId").replace("{{taskId}}", "{taskId}"),
                "description": text,
                "messages": _references(messages),
                "parameters": {"taskId": _TASK_ID},
            }
            for name, (key, text, messages) in keys.items()
        }
    )


def _queue(queue: Queue) -> Schema:
    return {
        "address": queue.value,
        "description": "Celery queue. On Redis it is a list under this name: LPUSH the message "
        "as the schema KombuMessage has it.",
        "messages": _references(["task", "doorbell"]),
        "x-redis-value": {"$ref": _SCHEMAS.format(model="KombuMessage")},
    }


def _references(messages: list[str]) -> Schema:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in messages}


def _operations() -> Schema:
    return {
        "enqueue": _operation(
            "send", "interactive", "Put a task on the queue for people who wait."
        ),
        "enqueueBatch": _operation(
            "send", "batch", "Put a task on the queue for work that can wait."
        ),
        "follow": _operation("receive", "live", "SUBSCRIBE before the task is put on a queue."),
        "readLog": _operation("receive", "log", "XRANGE behind the last id seen."),
        "cancel": _operation(
            "send", "cancel", "Run cancel.lua, which ends the task and says its id here."
        ),
        "readRecord": _operation("receive", "record", "HMGET the fields that are wanted."),
    }


def _operation(action: str, channel: str, summary: str) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }


def _messages() -> Schema:
    tasks = [_sent(name, task, task) for name, task in examples.TASKS.items()]
    doorbell = _sent("doorbell", examples.TASK, examples.DOORBELL)
    headers = {"headers": {"$ref": _SCHEMAS.format(model="CeleryHeaders")}}
    events = {
        name: _message(name, name.title(), [{"name": name, "payload": event}])
        for name, event in examples.EVENTS.items()
    }
    entry = {"name": "a chunk", "payload": examples.LOG_ENTRY}
    record = {"name": "a task that was completed", "payload": examples.RECORD}
    return {
        "task": _message("task", "TaskBody", tasks) | headers,
        "doorbell": _message("doorbell", "DoorbellBody", [doorbell]) | headers,
        **events,
        "cancelledId": _message(
            "cancelledId", "CancelledId", [{"name": "a task", "payload": examples.TASK_ID}]
        )
        | {"contentType": "text/plain"},
        "logEntry": _message("logEntry", "LogEntry", [entry]),
        "record": _message("record", "Record", [record]),
    }


def _sent(name: str, task: examples.Example, argument: Any) -> Schema:
    return {
        "name": name,
        "headers": examples.celery_headers(task),
        "payload": examples.celery_body(argument),
    }


def _message(name: str, schema: str, cases: list[Schema]) -> Schema:
    return {
        "name": name,
        "title": schema,
        "contentType": _JSON,
        "payload": {"$ref": _SCHEMAS.format(model=schema)},
        "examples": cases,
    }


def _schemas() -> Schema:
    return components(_SCHEMAS) | envelopes.schemas(_SCHEMAS)
