"""Messages as they really look: the examples of the documents, and what the tests send and read.

Every task here can be put on a queue as it stands.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from api_contracts.names import EVENT_FIELD, Queue
from api_contracts.requests import CELERY_TASKS

Example = dict[str, Any]

#: The smallest PNG: one pixel.
_PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUB"
    "AScY42YAAAAASUVORK5CYII="
)
_WEATHER_TOOL: Final[Example] = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}

#: Tasks, by what they show.
TASKS: Final[dict[str, Example]] = {
    "chat": {
        "kind": "chat",
        "id": "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c01",
        "request": {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "What is the capital of France?"},
            ],
        },
    },
    "streamed chat with options": {
        "kind": "chat",
        "id": "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c02",
        "vendor": "anthropic",
        "request": {
            "model": "claude-3-haiku-20240307",
            "messages": [{"role": "user", "content": "Write a short poem about the ocean."}],
            "temperature": 0.7,
            "max_tokens": 200,
            "stream": True,
        },
        "options": {
            "tenant": "web",
            "idempotency_key": "poem-2026-000017",
            "priority": "batch",
            "deadline": 4_102_444_800_000,
            "retry": {"max_attempts": 3, "base_s": 0.5},
            "result_ttl": 3600,
            "metadata": {"user": 4711},
            "trace": {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        },
    },
    "chat with a tool": {
        "kind": "chat",
        "id": "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c03",
        "request": {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "What's the weather like in Boston, MA?"}],
            "tools": [_WEATHER_TOOL],
            "tool_choice": "auto",
        },
    },
    "vision": {
        "kind": "vision",
        "id": "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c04",
        "request": {
            "model": "gpt-4o",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What's in this image?"},
                        {"type": "image_url", "image_url": {"url": _PIXEL}},
                    ],
                }
            ],
            "max_tokens": 300,
        },
    },
    "native Claude": {
        "kind": "native",
        "id": "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c05",
        "vendor": "anthropic",
        "headers": {"anthropic-version": "2023-06-01"},
        "path": "/v1/messages",
        "request": {
            "model": "claude-3-5-sonnet-20240620",
            "max_tokens": 1024,
            "messages": [{"role": "user", "content": "Explain neural networks to a child."}],
        },
    },
    "native Gemini, streamed": {
        "kind": "native",
        "id": "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c06",
        "vendor": "google",
        "path": "/v1/projects/cognition/locations/us/publishers/google/models/"
        "gemini-1.5-pro-latest:streamGenerateContent?alt=sse",
        "request": {
            "contents": [
                {
                    "role": "user",
                    "parts": [{"text": "Write a short story about a time-traveling historian."}],
                }
            ]
        },
    },
}

#: The task whose life the examples below tell, and its id.
TASK: Final = TASKS["streamed chat with options"]
TASK_ID: Final[str] = TASK["id"]
#: All that a doorbell carries: the task itself is on record.
DOORBELL: Final = TASK_ID
_WORKER: Final = "worker-1:4242"


def celery_headers(task: Example) -> Example:
    """Return the least headers that Celery needs to run a task; its own id is ours."""
    return {"lang": "py", "task": CELERY_TASKS[task["kind"]].value, "id": task["id"]}


def celery_body(argument: Any) -> list[Any]:
    """Return the body of a Celery message (protocol 2) with one positional argument."""
    return [[argument], {}, {}]


#: The least message that a worker takes from a queue on Redis: here, a doorbell.
KOMBU_MESSAGE: Final[Example] = {
    "body": base64.b64encode(json.dumps(celery_body(DOORBELL)).encode()).decode(),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": celery_headers(TASK) | {"rung_at": 1_800_000_000_000},
    "properties": {
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": Queue.BATCH.value},
        "delivery_mode": 2,
        "delivery_tag": "5b9f7d4e-6f0e-4a86-8f5e-3f6f0c6d9f11",
        "priority": 0,
    },
}

#: Why an attempt failed, by code.
ERRORS: Final[dict[str, Example]] = {
    "rate_limited": {
        "code": "rate_limited",
        "message": "Rate limit reached. Try again in 2 seconds.",
        "retryable": True,
        "status": 429,
        "provider_code": "rate_limit_exceeded",
        "request_id": "req_01J2X4Q9",
        "attempts": 1,
    },
    "invalid_request": {
        "code": "invalid_request",
        "message": "request.temperature: must be at most 2",
        "retryable": False,
        "attempts": 0,
    },
}

_USAGE: Final[Example] = {
    "provenance": "reported",
    "input_tokens": 14,
    "output_tokens": 3,
    "total_tokens": 17,
}
_TIMINGS: Final[Example] = {"queued_ms": 4, "first_chunk_ms": 381, "total_ms": 2960}

#: The answer as it stands in the record and, where it is small enough, in the ending.
RESULT: Final[Example] = {
    "task_id": TASK_ID,
    "kind": "chat",
    "protocol": "openai",
    "response": {
        "id": "chatcmpl-9x",
        "object": "chat.completion",
        "created": 1_795_363_202,
        "model": "claude-3-haiku-20240307",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Blue and wide."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17},
    },
    "finish_reason": "stop",
    "usage": _USAGE,
    "timings": _TIMINGS,
    "attempts": [
        {
            "attempt": 1,
            "worker": _WORKER,
            "outcome": "rate_limited",
            "status": 429,
            "request_id": "req_01J2X4Q9",
            "usage": {"provenance": "unavailable"},
        },
        {
            "attempt": 2,
            "worker": _WORKER,
            "outcome": "completed",
            "status": 200,
            "request_id": "req_01J2X4QC",
            "usage": _USAGE,
        },
    ],
    "request_id": "req_01J2X4QC",
    "metadata": {"user": 4711},
}


def _event(place: str, at: int, kind: str, **more: Any) -> Example:
    return {"id": place, "task_id": TASK_ID, "type": kind, "at": at, **more}


#: One event of each type, by type.
EVENTS: Final[dict[str, Example]] = {
    "queued": _event("0-1", 1_795_363_200_000, "queued"),
    "started": _event("1-0", 1_795_363_200_004, "started", attempt=1, worker=_WORKER, resets=False),
    "retrying": _event(
        "1-1",
        1_795_363_200_160,
        "retrying",
        error=ERRORS["rate_limited"],
        delay_ms=2250,
        next_at=1_795_363_202_410,
    ),
    "chunk": _event(
        "2-1",
        1_795_363_202_795,
        "chunk",
        data={
            "id": "chatcmpl-9x",
            "object": "chat.completion.chunk",
            "created": 1_795_363_202,
            "model": "claude-3-haiku-20240307",
            "choices": [{"index": 0, "delta": {"content": "Blue"}, "finish_reason": None}],
        },
    ),
    "stored": _event("2-2", 0, "stored"),
    "completed": _event(
        "2-5",
        1_795_363_202_960,
        "completed",
        finish_reason="stop",
        usage=_USAGE,
        timings=_TIMINGS,
        result=RESULT,
    ),
    "failed": _event("0-2", 1_795_363_200_002, "failed", error=ERRORS["invalid_request"]),
    "cancelled": _event("2-3", 1_795_363_202_900, "cancelled"),
    "expired": _event("0-2", 1_795_363_260_000, "expired"),
}

#: An entry of the log.
LOG_ENTRY: Final[Example] = {EVENT_FIELD: json.dumps(EVENTS["chunk"], separators=(",", ":"))}

#: What a task's record tells before its ending.
STATUS: Final[Example] = {
    "id": TASK_ID,
    "kind": "chat",
    "state": "retrying",
    "attempt": 1,
    "failures": 1,
    "created_at": 1_795_363_200_000,
    "claimed_at": 1_795_363_200_004,
    "due_at": 1_795_363_202_410,
    "worker": _WORKER,
    "error": ERRORS["rate_limited"],
}

#: The record itself when the task has ended: a hash, so that every value is a string.
RECORD: Final[Example] = {
    "kind": "chat",
    "state": "completed",
    "attempt": "2",
    "failures": "1",
    "created_at": "1795363200000",
    "claimed_at": "1795363200004",
    "ended_at": "1795363202960",
    "worker": _WORKER,
    "result": json.dumps(RESULT, separators=(",", ":")),
}
