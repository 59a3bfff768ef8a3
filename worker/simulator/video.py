"""Video tasks: created, then polled. Shapes: Volcengine Ark's "content generation" reference."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from worker.simulator.conversation import JsonObject, Refused, check

#: Tasks kept; the oldest is forgotten first.
_KEPT = 1000
#: Tokens that one video counts for.
_TOKENS = 108_900

NATIVE: Final = True
#: Status of an overloaded provider.
OVERLOADED: Final = 503
_CODES: Final = {
    401: "AuthenticationError",
    404: "ResourceNotFound",
    429: "RateLimitExceeded",
}
_SERVER_ERRORS: Final = 500


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    model: Annotated[str, Field(min_length=1)]
    content: Annotated[list[dict[str, Any]], Field(min_length=1)]


@dataclass(slots=True)
class _Video:
    model: str
    created: int
    polls: int = 0


@dataclass(slots=True)
class Videos:
    """The video tasks of one simulator. Each poll brings a task one state further."""

    _tasks: OrderedDict[str, _Video] = field(default_factory=OrderedDict)

    def create(self, body: JsonObject, call_id: str, now: int) -> JsonObject:
        """Take a task; ``now`` is unix time in seconds. Refused(400) where it is none."""
        asked = check(_Request, body)
        task_id = f"cgt-{call_id}"
        self._tasks[task_id] = _Video(asked.model, now)
        if len(self._tasks) > _KEPT:
            self._tasks.popitem(last=False)
        return {"id": task_id}

    def poll(self, task_id: str, now: int) -> JsonObject:
        """Tell how far a task is: queued, then running, then succeeded. Refused(404): unknown."""
        task = self._tasks.get(task_id)
        if task is None:
            raise Refused(404, "no video task has this id; create one first")
        task.polls += 1
        states = ("queued", "running", "succeeded")
        status = states[min(task.polls, len(states)) - 1]
        told: JsonObject = {
            "id": task_id,
            "model": task.model,
            "status": status,
            "created_at": task.created,
            "updated_at": now,
        }
        if status == "succeeded":
            told["content"] = {"video_url": f"https://videos.example.com/{task_id}.mp4"}
            told["usage"] = {"completion_tokens": _TOKENS, "total_tokens": _TOKENS}
        return told


def error(refused: Refused, call_id: str) -> JsonObject:
    """Write an error in Ark's shape."""
    server = "InternalServiceError" if refused.status >= _SERVER_ERRORS else "InvalidParameter"
    code = _CODES.get(refused.status, server)
    message = f"{refused.message} Request id: {call_id}"
    return {"error": {"code": code, "message": message, "param": "", "type": code}}
