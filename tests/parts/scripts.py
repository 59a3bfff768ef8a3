"""The store's scripts, called one by one, and a worker in the test's own hand that uses them.

A test says here when an attempt begins, speaks, loses its lease or ends: no router, no clock.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final
from uuid import uuid4

import redis as redis_library

from api_contracts.client.scripts import Script, sharded
from api_contracts.client.submission import CREATE, submission
from api_contracts.events import ENDINGS, EVENT_LIMIT, EventId, parse_event
from api_contracts.names import EVENT_FIELD, Keys, State
from api_contracts.requests import Task, parse_task
from api_contracts.results import Attempt, Result, Timings, Usage
from tests.parts.cluster import Apart
from tests.parts.wait import until
from worker import wire
from worker.claim import Claim, NotClaimed, read_claim

KEYS: Final = Keys()
#: Long enough for every test: whoever wants a lease to end says so.
LEASE_MS: Final = 600_000

#: What is to be counted where a claim finds that its task has expired.
EXPIRED: Final = "an expiry"

_ENOUGH: Final = b"nothing before this"

_CLAIM, _APPEND, _SETTLE, _RENEW = (
    files("worker").joinpath(f"lua/{name}.lua").read_text()
    for name in ("claim", "append", "settle", "renew")
)
_CANCEL, _REPLAY, _DROP = (Script.named(name).source for name in ("cancel", "replay", "drop"))


def a_task(text: str = "hello", **options: Any) -> Task:
    """A chat task with an id of its own."""
    messages = [{"role": "user", "content": text}]
    request = {"model": "m", "messages": messages, "stream": True}
    return parse_task({"kind": "chat", "id": str(uuid4()), "request": request, "options": options})


def chunk(task_id: str, attempt: int, seq: int, data: bytes = b'{"choices":[]}') -> bytes:
    """The event of a chunk, as a worker writes it."""
    (event,) = wire.chunks(task_id.encode(), attempt, seq, 1, [data])
    return event


@contextmanager
def listening(redis: redis_library.Redis, task_id: str) -> Iterator[Callable[[], list[bytes]]]:
    """Listen to a task's channel; call what is given for all that was published until then."""
    with redis.pubsub() as channel:  # type: ignore[no-untyped-call]
        channel.subscribe(KEYS.live(task_id))
        assert channel.get_message(timeout=10)["type"] == "subscribe"

        def heard() -> list[bytes]:
            redis.publish(KEYS.live(task_id), _ENOUGH)
            messages = iter(lambda: _message(channel), _ENOUGH)
            return list(messages)

        yield heard


def _message(channel: Any) -> bytes:
    """The next message, which must come."""
    while True:
        message = channel.get_message(timeout=30)
        assert message is not None, "the channel fell silent"
        if message["type"] == "message":
            data: bytes = message["data"]
            return data


def ending(task_id: str, event_id: str, state: str = State.CANCELLED) -> bytes:
    """The smallest event of this type."""
    event: dict[str, Any] = {"id": event_id, "task_id": task_id, "type": state, "at": 1}
    if state in (State.FAILED, State.RETRYING):
        event |= {"error": {"code": "overloaded", "message": "busy", "retryable": True}}
    if state == State.RETRYING:
        event |= {"delay_ms": 0, "next_at": 1}
    if state == State.COMPLETED:
        event |= {"finish_reason": "stop", "usage": {"provenance": "unavailable"}}
        event |= {"timings": {"queued_ms": 1, "first_chunk_ms": None, "total_ms": 2}}
    return json.dumps(event).encode()


class Scripts:
    """Each script by its name; what it returns is given back, what it refuses is raised."""

    def __init__(self, redis: redis_library.Redis, keys: Keys = KEYS) -> None:
        """Use this client, which returns bytes."""
        self.redis: Any = redis
        self._keys = keys
        self._sharded = isinstance(redis, Apart)
        #: By task and attempt: the token of its claim.
        self._tokens: dict[tuple[str, int], str] = {}
        #: When these were made, by a clock that does not jump.
        self.began = time.monotonic()

    def create(self, task: Task) -> Any:
        commands = submission(task, self._keys, int(time.time() * 1000))
        source = sharded(CREATE) if self._sharded else CREATE
        return self.redis.execute_command("EVAL", source, *commands.create_with_keys)

    def claim(
        self, task_id: str, token: str, *, worker: str = "w", lease_ms: int = LEASE_MS
    ) -> Claim | NotClaimed:
        reply = self._run(_CLAIM, task_id, worker, token, lease_ms, EXPIRED)
        claim = read_claim(task_id, reply)
        if isinstance(claim, Claim):
            self._tokens[task_id, claim.attempt] = claim.token
        return claim

    def token(self, task_id: str, attempt: int) -> str:
        """Return the token of a claim that was made here; for any other, one that is nobody's."""
        return self._tokens.get((task_id, attempt), "nobody's" if attempt else "")

    def append(self, task_id: str, attempt: int, first: int, *events: bytes) -> Any:
        token = self.token(task_id, attempt)
        return self._run(_APPEND, task_id, attempt, token, first, EVENT_LIMIT, *events)

    def settle(  # noqa: PLR0913 - what the script takes
        self,
        task_id: str,
        event_id: str,
        state: State,
        *,
        event: bytes | None = None,
        ttl_s: int | str = "",
        forget: str = "",
        **fields: str | int | bytes,
    ) -> Any:
        event = ending(task_id, event_id, state) if event is None else event
        token = self.token(task_id, EventId.parse(event_id).attempt)
        pairs = [part for pair in fields.items() for part in pair]
        return self._run(_SETTLE, task_id, event_id, token, event, state, ttl_s, forget, *pairs)

    def renew(self, task_id: str, attempt: int, lease_ms: int = LEASE_MS) -> Any:
        place = self._keys.record(task_id)
        token = self.token(task_id, attempt)
        return self.redis.execute_command("EVAL", _RENEW, 1, place, token, lease_ms)

    def cancel(self, task_id: str) -> Any:
        return self._run(_CANCEL, task_id, self._keys.cancel)

    def replay(self, task_id: str, looked_at: bytes | str = "") -> Any:
        return self._run(_REPLAY, task_id, looked_at)

    def drop(self, task_id: str) -> Any:
        places = (self._keys.record(task_id), self._keys.events(task_id))
        return self.redis.execute_command("EVAL", _DROP, 2, *places)

    def set(self, task_id: str, **fields: str | int) -> None:
        """Put fields of a record as they would be at another time."""
        self.redis.hset(self._keys.record(task_id), mapping=fields)

    def record(self, task_id: str) -> dict[bytes, bytes]:
        return dict(self.redis.hgetall(self._keys.record(task_id)))

    def log(self, task_id: str) -> list[tuple[str, bytes]]:
        """Return id and event of every entry."""
        entries = self.redis.xrange(self._keys.events(task_id))
        return [(place.decode(), fields[EVENT_FIELD.encode()]) for place, fields in entries]

    def ttls(self, task_id: str) -> list[int]:
        """Return for how long record and log stay, in seconds; -1 for ever."""
        return [self.redis.ttl(key) for key in self._both(task_id)]

    def expires(self, task_id: str) -> list[int]:
        """Return the moments at which record and log go, in unix ms; -1 for never."""
        command = self.redis.execute_command
        return [command("PEXPIRETIME", key) for key in self._both(task_id)]

    def _both(self, task_id: str) -> tuple[str, str]:
        return self._keys.record(task_id), self._keys.events(task_id)

    def _run(self, source: str, task_id: str, *arguments: Any) -> Any:
        keys = self._keys
        source = sharded(source) if self._sharded else source
        return self.redis.execute_command(
            "EVAL", source, 2, keys.record(task_id), keys.events(task_id),
            task_id, keys.live(task_id), *arguments,
        )  # fmt: skip


class Hand:
    """A worker in the test's hand: one attempt of one task, begun when it is made."""

    def __init__(
        self, redis: redis_library.Redis, task_id: str, keys: Keys = KEYS, *, worker: str = "hand"
    ) -> None:
        """Claim the task, which must be free."""
        self._scripts = Scripts(redis, keys)
        claim = self._scripts.claim(task_id, str(uuid4()), worker=worker)
        assert isinstance(claim, Claim), claim
        self.claim = claim
        self.task_id = task_id
        self.seq = 0

    def say(self, *texts: str) -> None:
        """Send a chunk for each text, all in one batch."""
        places = range(self.seq + 1, self.seq + 1 + len(texts))
        attempt = self.claim.attempt
        events = [
            chunk(self.task_id, attempt, seq, delta(text))
            for seq, text in zip(places, texts, strict=True)
        ]
        assert self._scripts.append(self.task_id, attempt, self.seq + 1, *events) == 1
        self.seq += len(texts)

    def vanish(self) -> None:
        """Let the lease run out, as a worker does that has died."""
        self._scripts.set(self.task_id, lease_until=1)

    def retry(self) -> None:
        """Give up this attempt; the next is due at once."""
        self._end(State.RETRYING, due_at=1)

    def fail(self) -> None:
        """End the task with an error."""
        error = '{"code":"overloaded","message":"busy","retryable":true}'
        self._end(State.FAILED, ttl_s=60, error=error, ended_at=1)

    def cancel(self) -> None:
        self._end(State.CANCELLED, ttl_s=60, ended_at=1)

    def complete(self, text: str = "whole", *, in_event: bool = True) -> None:
        """End the task with this answer, which the ending carries or leaves to the record."""
        result = a_result(self.claim, text)
        written = result.model_dump_json()
        event = json.loads(ending(self.task_id, self._next, State.COMPLETED))
        event |= {"result": json.loads(written)} if in_event else {"result_key": "elsewhere"}
        said = json.dumps(event).encode()
        self._end(State.COMPLETED, event=said, ttl_s=60, result=written, ended_at=1)

    @property
    def _next(self) -> str:
        return f"{self.claim.attempt}-{self.seq + 1}"

    def _end(self, state: State, **more: Any) -> None:
        assert self._scripts.settle(self.task_id, self._next, state, **more) == 1


def delta(text: str) -> bytes:
    """A router's chunk that says this text."""
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


def a_result(claim: Claim, text: str) -> Result:
    """The result of an attempt that was answered with this text."""
    usage = Usage(provenance="unavailable")
    attempt = Attempt(attempt=claim.attempt, worker=claim.worker, outcome="completed", usage=usage)
    message = {"role": "assistant", "content": text}
    return Result(
        task_id=claim.task_id,
        kind="chat",
        protocol="openai",
        response={"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
        finish_reason="stop",
        usage=usage,
        timings=Timings(queued_ms=1, first_chunk_ms=1, total_ms=2),
        attempts=(attempt,),
        request_id=None,
    )


def types(log: list[tuple[str, bytes]]) -> list[str]:
    """The type of each entry of a log."""
    return [parse_event(event).type for _, event in log]


def endings(log: list[tuple[str, bytes]]) -> list[str]:
    """The endings among a log's entries: there may be one."""
    return [name for name in types(log) if name in ENDINGS]


def decoded(record: Mapping[bytes, bytes]) -> dict[str, str]:
    """A record as text."""
    return {name.decode(): value.decode() for name, value in record.items()}


def wait_for_subscriber(redis: redis_library.Redis, task_id: str, count: int = 1) -> None:
    """Wait until so many listen to a task's channel."""
    channel = KEYS.live(task_id)
    asked: Any = redis
    until(lambda: asked.pubsub_numsub(channel)[0][1] >= count, f"{count} listen to {task_id}")
