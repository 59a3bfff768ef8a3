"""What a call passes before anybody answers it, and what the simulator remembers of calls.

In this order: a key (401), the vendor of a native call (400), the header ``x-simulate`` (400).
Then the body is read, and only then is a ``status`` given that was ordered, so that the
connection can be used again after it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import web

from worker.simulator import anthropic, faults, gemini, openai, video
from worker.simulator.conversation import JsonObject, Refused
from worker.simulator.faults import Faults
from worker.simulator.steps import Pace

#: Calls that the journal keeps.
JOURNAL: Final = 100
#: Vendors that the router documents.
_VENDORS: Final = frozenset({
    "auto", "anthropic", "aws", "azure", "deepseek", "google", "mistral", "openai", "volcengine",
    "x",
})  # fmt: skip


class Errors(Protocol):
    """How one dialect writes its errors."""

    NATIVE: bool
    OVERLOADED: int

    def error(self, refused: Refused, call_id: str, /) -> JsonObject:
        """Write an error in the dialect's shape."""


@dataclass(slots=True)
class State:
    """What the simulator remembers between calls."""

    pace: Pace
    journal: deque[JsonObject] = field(default_factory=lambda: deque(maxlen=JOURNAL))
    tally: faults.Tally = field(default_factory=faults.Tally)
    videos: video.Videos = field(default_factory=video.Videos)


STATE: Final = web.AppKey("state", State)
CALL_ID: Final = web.RequestKey("call_id", str)
FAULT: Final = web.RequestKey("fault", str)


def errors_of(path: str) -> Errors:
    """Return the dialect that a path is spoken to in; OpenAI's where nothing else fits."""
    if path.startswith("/v1/messages"):
        return anthropic
    if path.startswith("/v1/projects/"):
        return gemini
    return video if path.startswith("/api/v3/") else openai


async def admit(request: web.Request) -> tuple[Faults, JsonObject]:
    """Check the headers and read the body, an empty one for GET; Refused says what is wrong."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refused(401, "no API key: send the header Authorization: Bearer KEY")
    vendor = request.headers.get("vendor")
    if vendor is None and errors_of(request.path).NATIVE:
        raise Refused(400, "a native call needs the header vendor, such as anthropic or google")
    if vendor is not None and vendor not in _VENDORS:
        raise Refused(400, f"vendor: unknown; there are {', '.join(sorted(_VENDORS))}")
    ordered = _ordered(request)
    body = await _body(request) if request.method == "POST" else {}
    if ordered.status is not None:
        headers = {"Retry-After": ordered.retry_after} if ordered.retry_after else {}
        text = f"simulated: the header x-simulate asked for {ordered.status}"
        await asyncio.sleep(ordered.first_s or 0)
        raise Refused(ordered.status, text, headers=headers, retry_info=ordered.retry_info)
    return ordered, body


def _ordered(request: web.Request) -> Faults:
    """Return the faults that are due in this call."""
    spec = request.headers.get("x-simulate")
    if spec is None:
        return faults.NONE
    try:
        ordered = faults.parse(spec)
    except ValueError as error:
        raise Refused(400, f"x-simulate: {error}") from None
    if ordered.times is not None:
        key = request.headers.get("x-simulate-key")
        if not key:
            raise Refused(400, "x-simulate: times needs a header x-simulate-key of your choice")
        if not request.app[STATE].tally.due(key, ordered.times):
            return faults.NONE
    request[FAULT] = spec
    return ordered


async def _body(request: web.Request) -> JsonObject:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object")
    return body
