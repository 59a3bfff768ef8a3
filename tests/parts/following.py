"""Looking at a task from outside, as a program in any language would: record, log and channel."""

import json
from typing import Any, Final, Self

import redis as redis_library

from api_contracts.events import ENDINGS, Event, parse_event
from api_contracts.names import EVENT_FIELD, Keys
from api_contracts.results import Result
from tests.parts.wait import until

Json = dict[str, Any]

KEYS: Final = Keys()


def log_of(redis: redis_library.Redis, task_id: str) -> list[Event]:
    """Return the events in a task's log, oldest first."""
    entries: Any = redis.xrange(KEYS.events(task_id))
    events = [parse_event(fields[EVENT_FIELD.encode()]) for _, fields in entries]
    return [event for event in events if event.type != "stored"]


def ended(redis: redis_library.Redis, task_id: str, *, within: float = 10.0) -> list[Event]:
    """Wait for a task's ending; return its whole log."""

    def look() -> list[Event]:
        events = log_of(redis, task_id)
        return events if events and events[-1].type in ENDINGS else []

    return until(look, f"the ending of task {task_id}", within=within)


def result_of(redis: redis_library.Redis, task_id: str, *, within: float = 10.0) -> Result:
    """Wait for a task's ending, which must be `completed`; return the result on record."""
    ending = ended(redis, task_id, within=within)[-1]
    assert ending.type == "completed", ending
    text: Any = redis.hget(KEYS.record(task_id), "result")
    return Result.model_validate_json(text)


def error_of(redis: redis_library.Redis, task_id: str, *, within: float = 10.0) -> Json:
    """Wait for a task's ending, which must be `failed`; return its error, as in the record too."""
    ending = ended(redis, task_id, within=within)[-1]
    assert ending.type == "failed", ending
    record: Any = redis.hmget(KEYS.record(task_id), "state", "error")
    error: Json = json.loads(record[1])
    assert (record[0], error) == (b"failed", ending.error.model_dump(exclude_none=True))
    return error


def until_over(redis: redis_library.Redis, task_id: str) -> None:
    """Wait until a worker has done the last that it does of a task, a round trip behind its ending.

    It strikes it off the list, counts it, and takes the note of that out of the record; before, it
    has let go of it. A doorbell that comes late puts it back on the list for as long as a lease.
    """
    until(lambda: redis.zscore(KEYS.due, task_id) is None, f"task {task_id} is over", within=60)


class Ear:
    """Hears what is published on every live channel, from its first moment on."""

    def __init__(self, redis: redis_library.Redis) -> None:
        """Subscribe, and wait until Redis has said so."""
        self._channel = redis.pubsub()  # type: ignore[no-untyped-call]
        self._channel.psubscribe(KEYS.live("*").replace("{", "").replace("}", ""))
        assert self._channel.get_message(timeout=30)["type"] == "psubscribe"

    def until_ended(self, task_id: str, *, within: float = 10.0) -> list[Json]:
        """Wait for a task's ending on its channel; return all that was heard on it."""
        heard: list[Json] = []

        def listen() -> bool:
            message = self._channel.get_message(timeout=0.1)
            if message and message["channel"] == KEYS.live(task_id).encode():
                heard.append(json.loads(message["data"]))
            return bool(heard) and heard[-1]["type"] in ENDINGS

        until(listen, f"the ending of task {task_id} on its channel", within=within)
        return heard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def kinds(events: list[Event]) -> list[str]:
    """Return the events' types, with a run of chunks as one."""
    types = [event.type for event in events]
    return [one for place, one in enumerate(types) if one != "chunk" or types[place - 1] != one]
