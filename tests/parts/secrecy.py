"""Keys for tests of encryption and signatures, and clients and records that use them."""

import base64
import json
import time
from typing import Any, Final

import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.box import Box
from api_contracts.client.keyring import Keyring
from api_contracts.client.protection import Protection
from api_contracts.client.signatures import Signatures
from api_contracts.client.submission import CREATE, ring, submission
from api_contracts.names import Queue, State
from api_contracts.requests import Task, parse_task
from tests.parts.aimock import Aimock
from tests.parts.following import KEYS
from tests.parts.scripts import Scripts, a_result, chunk, delta, ending
from tests.parts.worker import Worker
from worker.claim import Claim

#: What stands in no key, log or message of a Redis on which tasks are encrypted.
PROMPT: Final = "canary-of-a-prompt"
ANSWER: Final = "canary-of-an-answer"
METADATA: Final = "canary-of-metadata"
HEADER: Final = "canary-of-a-header"
REFUSAL: Final = "canary-of-a-refusal"
CANARY: Final = b"canary"
#: An error that quotes a provider.
ERROR: Final[dict[str, Any]] = {
    "code": "overloaded", "message": REFUSAL, "retryable": True, "provider_code": REFUSAL,
}  # fmt: skip


def key(number: int) -> str:
    """A key of 32 bytes, in base64."""
    return base64.b64encode(bytes([number]) * 32).decode()


OLD, NEW, OTHER = key(1), key(2), key(3)
#: As the settings have it while one key follows the other.
BOTH: Final = f"{NEW},{OLD}"
#: Two producers that a worker may know.
WEB, BILLING = f"web:{key(11)}", f"billing:{key(12)}"

ENCRYPTION: Final = "ROUTER_WORKER_ENCRYPTION_KEYS"
REQUIRED: Final = "ROUTER_WORKER_ENCRYPTION_REQUIRED"
SIGNING: Final = "ROUTER_WORKER_SIGNING_KEYS"


def protection(encryption: str = "", signing: str = "") -> Protection:
    """What a client has that has these keys."""
    return Protection(Keyring.of(encryption), Signatures.of(signing))


def key_id(text: str) -> bytes:
    """The id of the first of these keys, as it stands beside what it encrypts."""
    return bytes.fromhex(Keyring.of(text).ids.partition(",")[0])


def now_ms() -> int:
    return int(time.time() * 1000)


def put(
    redis: redis_library.Redis, task: Task, known: Protection, *, at: int | None = None
) -> None:
    """Put a task on record as a client with these keys does at this moment, and ring nobody."""
    commands = submission(task, KEYS, now_ms() if at is None else at, known)
    redis.eval(CREATE, *commands.create_with_keys)  # type: ignore[arg-type]


def ring_for(redis: redis_library.Redis, task: Task) -> None:
    """Ring a task's doorbell, as anybody may."""
    _, queue, message = ring(task.id, task.kind, Queue.INTERACTIVE, now_ms())
    redis.lpush(str(queue), message)


def field(redis: redis_library.Redis, task_id: str, name: str) -> Any:
    """A field of a task's record, as it stands there."""
    return redis.hget(KEYS.record(task_id), name)


def secret_json(text: str = PROMPT, *, streamed: bool = True, **options: Any) -> dict[str, Any]:
    """A task that has a canary wherever a producer may write something, as JSON."""
    messages = [{"role": "user", "content": text}]
    return {
        "kind": "chat",
        "request": {"model": "m", "messages": messages, "stream": streamed},
        "headers": {"x-note": HEADER},
        "options": {"metadata": {"note": METADATA}, **options},
    }


def secret_task(text: str = PROMPT, *, streamed: bool = True, **options: Any) -> Task:
    """The same, checked."""
    return parse_task(secret_json(text, streamed=streamed, **options))


class Everywhere:
    """Hears what is published on any channel, from its first moment on."""

    _ENOUGH: Final = b"nothing before this"

    def __init__(self, redis: redis_library.Redis) -> None:
        """Subscribe, and wait until Redis has said so."""
        self._redis = redis
        self._channel = redis.pubsub()  # type: ignore[no-untyped-call]
        self._channel.psubscribe("*")
        assert self._channel.get_message(timeout=30)["type"] == "psubscribe"

    def heard(self) -> list[bytes]:
        """Return all that was published until now; call it once."""
        self._redis.publish("the end", self._ENOUGH)
        messages = iter(lambda: self._channel.get_message(timeout=30)["data"], self._ENOUGH)
        found = list(messages)
        self._channel.close()
        return found


def serve(aimock: Aimock) -> None:
    """Refuse some with words of a provider, and answer all others in one chunk."""

    def error(status: int) -> dict[str, Any]:
        words = {"message": REFUSAL, "type": REFUSAL, "code": REFUSAL}
        return {"error": words, "status": status}

    aimock.serve(
        {"match": {"userMessage": "refused"}, "response": error(400)},
        {"match": {"userMessage": "unpaid"}, "response": error(402)},
        {"match": {"userMessage": "busy", "sequenceIndex": 0}, "response": error(503)},
        {"match": {}, "response": {"content": ANSWER}, "chunkSize": 64},
    )


def calls_of(aimock: Aimock) -> int:
    """How many calls have reached the router."""
    return len(aimock.journal())


def refused_by(worker: Worker) -> dict[str, float]:
    """How many tasks a worker has refused, by reason."""
    counts = worker.samples("refused_tasks_total")
    return {name.removeprefix("reason="): count for name, count in counts.items() if count}


def answer_of(client: Client, task_id: str) -> str:
    """Wait for a task's answer."""
    text: str = client.result(task_id, timeout=60).response["choices"][0]["message"]["content"]
    return text


class SealedHand:
    """A worker in the test's hand that encrypts what it says, in its first attempt."""

    def __init__(self, redis: redis_library.Redis, task_id: str, keys: str) -> None:
        """Claim the task, which must be free."""
        self._scripts = Scripts(redis)
        claim = self._scripts.claim(task_id, "token")
        assert isinstance(claim, Claim), claim
        self._claim = claim
        self._task_id = task_id
        self._seq = 0
        self.use(keys)

    def use(self, keys: str) -> None:
        """Go on with these keys, as a worker does that was started again."""
        self._box = Box(Keyring.of(keys), self._task_id)

    def say(self, *texts: str) -> None:
        """Send a chunk for each text."""
        for text in texts:
            self._seq += 1
            event = chunk(self._task_id, 1, self._seq, delta(text))
            sealed = self._box.seal_event(event)
            assert self._scripts.append(self._task_id, 1, self._seq, sealed) == 1

    def complete(self, text: str) -> None:
        """End the task with this answer."""
        result = a_result(self._claim, text).model_dump(mode="json")
        self._end(State.COMPLETED, {"result": result}, result=json.dumps(result).encode())

    def fail(self) -> None:
        """End the task with an error, as a dead letter."""
        self._scripts.redis.zadd(KEYS.dead, {self._task_id: 1})
        self._end(State.FAILED, {"error": ERROR}, error=json.dumps(ERROR))

    def _end(self, state: State, says: dict[str, Any], **fields: Any) -> None:
        place = f"1-{self._seq + 1}"
        event = json.loads(ending(self._task_id, place, state)) | says
        text = json.dumps(event, separators=(",", ":")).encode()
        sealed: Any = dict(self._box.seal_fields(fields))
        said = self._box.seal_event(text)
        assert self._scripts.settle(self._task_id, place, state, event=said, **sealed) == 1
