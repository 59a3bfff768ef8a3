"""A line for each change of a task's state, and nothing in any line that is nobody's to read."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.submission import ring
from api_contracts.events import Chunk
from api_contracts.requests import new_id
from tests.conftest import StartValkey, StartWorker
from tests.e2e.conftest import RETRIES
from tests.parts import answers, foreign
from tests.parts.following import KEYS, ended, log_of
from tests.parts.gate import Answer, Do, Gate, stream, whole
from tests.parts.program import ROOT
from tests.parts.scripts import Scripts, a_task
from tests.parts.wait import until
from tests.parts.worker import API_KEY, Worker
from worker import embedded
from worker.executor import DEATHS_LIMIT

Json = dict[str, Any]

#: Stands for what nobody may read in a log: each place of a task and of an answer has its own.
CANARY: Final = "canary"
QUICK: Final = {"ROUTER_WORKER_LEASE_S": "4", "ROUTER_WORKER_HEARTBEAT_S": "1"}
#: Makes every logger of a program say all that it can, whatever its level is set to.
LOUD: Final = """
import logging

set_level = logging.Logger.setLevel
logging.Logger.setLevel = lambda logger, _: set_level(logger, logging.DEBUG)
"""
#: A line of a state change as people read it.
STATE: Final = re.compile(r"\S+Z (?:info|warning) +worker ([a-z]+) (task_id=.*)")


def said_by(name: str) -> Json:
    """A chat that has a canary of its own wherever a producer can put one."""
    messages = [
        {"role": "system", "content": f"{CANARY} of {name}'s system"},
        {"role": "user", "content": f"{CANARY} of {name}'s prompt", "name": f"{CANARY}-name"},
    ]
    request = {
        "model": "gpt-4o",
        "messages": messages,
        "stop": [f"{CANARY} stop"],
        "user": f"{CANARY} user",
        "tools": [{"type": "function", "function": {"name": f"{CANARY}-tool"}}],
        f"{CANARY} field": {f"{CANARY} key": f"{CANARY} value"},
    }
    options = {
        "tenant": f"{CANARY}-tenant",
        "idempotency_key": f"{CANARY}-{name.replace(' ', '-')}",
        "metadata": {f"{CANARY} key": f"{CANARY} value"},
    }
    headers = {f"x-{CANARY}": f"{CANARY} header"}
    return {"kind": "chat", "vendor": "openai", "request": request} | {
        "headers": headers,
        "options": options,
    }


def echo(status: int, name: str, **headers: str) -> Answer:
    """A refusal that repeats the prompt and the key wherever it can."""
    error = {"message": f"{CANARY} {API_KEY}", "type": f"{CANARY}-type", "code": API_KEY}
    return whole({"error": error}, status, x_request_id=f"req-{name}", **headers)


def good(name: str) -> Answer:
    choice = {"index": 0, "message": {"content": f"{CANARY} answer"}, "finish_reason": "stop"}
    return whole({"choices": [choice]}, x_request_id=f"req-{name}")


HALF: Final = stream(*answers.openai(f"{CANARY} chunk", finish=False), Do.HANG)


@dataclass
class Scene:
    """A server, a gate to the router, a producer, and the workers that have come and gone."""

    gate: Gate
    client: Client
    redis: redis_library.Redis
    start_worker: StartWorker
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        self.workers: list[Worker] = []
        #: Ids of the tasks, by name.
        self.tasks: dict[str, str] = {}

    def start(self) -> Worker:
        self.workers.append(self.start_worker(self.gate.url, **self.settings))
        return self.workers[-1]

    @property
    def output(self) -> str:
        return "".join(worker.output for worker in self.workers)

    def enqueue(self, name: str, *answers: Answer, stream: bool = False, **options: Any) -> str:
        """Enqueue a task of this name, whose calls are answered so."""
        self.gate.answer(*answers, to=f"of {name}'s prompt")
        task = said_by(name)
        task["options"] |= options | {"stream": stream}
        self.tasks[name] = self.client.enqueue(task).id
        return self.tasks[name]

    def begin(self, name: str, **options: Any) -> str:
        """Enqueue a task whose stream hangs behind its first chunk, and wait for that."""
        task = self.enqueue(name, HALF, stream=True, **options)
        until(lambda: any(isinstance(one, Chunk) for one in log_of(self.redis, task)), "a chunk")
        return task

    def states(self, name: str) -> list[dict[str, str]]:
        """Return what the lines of a task say, in their order."""
        found = (_state(line) for line in self.output.splitlines())
        return [one for one in found if one and one["task_id"] == self.tasks[name]]

    def wait_for(self, name: str, count: int) -> list[dict[str, str]]:
        """Wait until a task has so many lines; return what they say."""
        until(
            lambda: len(self.states(name)) >= count, f"{count} lines of the task {name}", within=30
        )
        return self.states(name)

    def events(self, name: str) -> list[str]:
        """Return the states that its log tells, but for that it was queued."""
        types = [event.type for event in log_of(self.redis, self.tasks[name])]
        states = ["running" if one == "started" else one for one in types]
        return [one for one in states if one not in ("queued", "chunk")]


def _state(line: str) -> dict[str, str] | None:
    """Read a line of either form; None where it tells no task's state."""
    if line.startswith("{"):
        said = json.loads(line)
        if said["logger"] != "worker" or "task_id" not in said:
            return None
        return {"state": said["message"]} | {name: str(value) for name, value in said.items()}
    found = STATE.fullmatch(line)
    if found is None:
        return None
    pairs = dict(pair.split("=", 1) for pair in found.group(2).split())
    return {"state": found.group(1)} | pairs


@pytest.fixture
def server(start_valkey: StartValkey) -> embedded.EmbeddedServer:
    """A server of the test's own: the workers of other tests take none of its tasks."""
    return start_valkey()


@pytest.fixture(params=["console", "json"])
def scene(
    request: pytest.FixtureRequest, server: embedded.EmbeddedServer, gate: Gate,
    worker_process: StartWorker, tmp_path: Path,
) -> Iterator[Scene]:  # fmt: skip
    """Workers that say all that they can, in either form."""
    (tmp_path / "sitecustomize.py").write_text(LOUD)
    settings = {
        **RETRIES,
        **QUICK,
        "REDIS_URL": server.url,
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "ROUTER_WORKER_LOG_FORMAT": request.param,
        "ROUTER_WORKER_QUEUES": "router.interactive",
        "ROUTER_WORKER_DRAIN_S": "0",
    }
    redis = redis_library.Redis.from_url(server.url)
    with redis, Client(server.url) as client:
        yield Scene(gate, client, redis, worker_process, settings)


def _end_each(scene: Scene) -> None:
    """Let tasks end in every way that one worker knows."""
    scene.enqueue("streamed", stream(*answers.openai(f"{CANARY} chunk")), stream=True)
    scene.enqueue("retried", echo(503, "first"), good("second"))
    scene.enqueue("refused", echo(400, "refused"))
    scene.enqueue("exhausted", echo(429, "exhausted"), retry={"max_attempts": 1})
    scene.enqueue("expired", expires_at=int(time.time() * 1000) - 1000)
    for name in ("streamed", "retried", "refused", "exhausted", "expired"):
        ended(scene.redis, scene.tasks[name])


def _cancel_each(scene: Scene) -> None:
    """Cancel a task in each state in which that can be."""
    scene.enqueue("cancelled while queued", priority="batch")
    scene.enqueue("cancelled while retrying", echo(429, "later", retry_after="3600"))
    waiting = scene.tasks["cancelled while retrying"]
    until(lambda: scene.client.status(waiting).state == "retrying", "a retry")
    scene.begin("cancelled while running")
    for name in ("queued", "retrying", "running"):
        assert scene.client.cancel(scene.tasks[f"cancelled while {name}"])


def _spoil_each(scene: Scene) -> None:
    """Send what breaks the contract, in a message and in a record, and what is no message."""
    redis, scripts = scene.redis, Scripts(scene.redis)
    broken = said_by("broken") | {f"{CANARY} field": CANARY}
    scene.tasks["broken message"] = foreign.send(redis, broken)
    redis.lpush(foreign.QUEUE, f'{{"{CANARY}": "{CANARY}"')
    nobodys = foreign.message(CANARY, message_id=CANARY, root_id=CANARY, argsrepr=CANARY)
    redis.lpush(foreign.QUEUE, nobodys, foreign.message({CANARY: CANARY}, eta=CANARY))
    spoilt: dict[str, dict[str, str | int]] = {
        "broken envelope": {"task": f'{{"{CANARY}'},
        "broken request": {"request": f'["{CANARY}"]'},
        "poison": {"deaths": DEATHS_LIMIT},
    }
    for name, fields in spoilt.items():
        task = a_task(f"{CANARY} prompt")
        scripts.create(task)
        scripts.set(task.id, **fields)
        _, queue, message = ring(task.id, "chat", foreign.QUEUE, 1_800_000_000_000)
        redis.lpush(str(queue), message)
        scene.tasks[name] = task.id
    for name in ("broken message", "broken envelope", "broken request", "poison"):
        ended(redis, scene.tasks[name])
    until(lambda: redis.zcard(KEYS.dead) >= 4, "what was no message is put aside")


def _leave_each(scene: Scene) -> None:
    """Let one worker hand its tasks back, and the next one die with its own."""
    first = scene.workers[-1]
    scene.begin("handed back")
    first.stop()
    scene.gate.answer(good("elsewhere"), to="of handed back's prompt")
    second = scene.start()
    ended(scene.redis, scene.tasks["handed back"])
    scene.begin("interrupted", on_interrupt="fail")
    scene.begin("restarted")
    second.kill()
    scene.gate.answer(good("again"), to="of restarted's prompt")
    scene.start()
    for name in ("interrupted", "restarted"):
        ended(scene.redis, scene.tasks[name], within=30)


#: The states that each task's lines tell, in their order, with what else they must say.
LINES: Final[dict[str, list[dict[str, str]]]] = {
    "streamed": [
        {"state": "running", "attempt": "1"},
        {"state": "completed", "attempt": "1", "status": "200"},
    ],
    "retried": [
        {"state": "running", "attempt": "1"},
        {"state": "retrying", "attempt": "1", "code": "overloaded", "request_id": "req-first"},
        {"state": "running", "attempt": "2"},
        {"state": "completed", "attempt": "2", "status": "200", "request_id": "req-second"},
    ],
    "refused": [
        {"state": "running", "attempt": "1"},
        {"state": "failed", "code": "rejected", "status": "400", "request_id": "req-refused"},
    ],
    "exhausted": [
        {"state": "running", "attempt": "1"},
        {"state": "failed", "reason": "attempts_exhausted", "request_id": "req-exhausted"},
    ],
    "expired": [{"state": "expired", "attempt": "0", "kind": "chat"}],
    "cancelled while queued": [{"state": "cancelled", "attempt": "0", "kind": "chat"}],
    "cancelled while retrying": [
        {"state": "running", "attempt": "1"},
        {"state": "retrying", "attempt": "1", "status": "429", "request_id": "req-later"},
        {"state": "cancelled", "attempt": "1", "kind": "chat"},
    ],
    "cancelled while running": [
        {"state": "running", "attempt": "1"},
        {"state": "cancelled", "attempt": "1"},
    ],
    "broken message": [{"state": "failed", "attempt": "0", "code": "invalid_request"}],
    "broken envelope": [
        {"state": "running", "attempt": "1"},
        {"state": "failed", "attempt": "1", "code": "invalid_request"},
    ],
    "broken request": [
        {"state": "running", "attempt": "1"},
        {"state": "failed", "attempt": "1", "code": "invalid_request"},
    ],
    "poison": [
        {"state": "running", "attempt": "1"},
        {"state": "failed", "attempt": "1", "code": "poison"},
    ],
    "handed back": [
        {"state": "running", "attempt": "1"},
        {"state": "queued", "attempt": "1", "reason": "handed_back"},
        {"state": "running", "attempt": "2"},
        {"state": "completed", "attempt": "2", "request_id": "req-elsewhere"},
    ],
    "interrupted": [
        {"state": "running", "attempt": "1"},
        {"state": "running", "attempt": "2", "reason": "interrupted"},
        {"state": "failed", "attempt": "2", "code": "interrupted"},
    ],
    "restarted": [
        {"state": "running", "attempt": "1"},
        {"state": "running", "attempt": "2", "reason": "interrupted"},
        {"state": "completed", "attempt": "2", "request_id": "req-again"},
    ],
}
#: Tasks that nobody could read: of them no line can name a vendor or a model.
UNREAD: Final = {
    "expired", "broken message", "broken envelope", "broken request", "poison",
    "cancelled while queued",
}  # fmt: skip
#: Who tells that a task was cancelled need not have read it.
WORKING: Final = ("running", "retrying", "completed", "failed", "queued")


def test_each_change_of_state_is_one_line_which_says_whose_it_is_and_nothing_more(
    scene: Scene,
) -> None:
    scene.start()
    for act in (_end_each, _cancel_each, _spoil_each, _leave_each):
        act(scene)
    assert set(scene.tasks) == set(LINES)
    for name, expected in LINES.items():
        states = [line["state"] for line in expected]
        lines = scene.wait_for(name, len(states))
        assert [line["state"] for line in lines] == states, name
        # Its log says the same; but that a task is handed back, only the lines do.
        assert scene.events(name) == [one for one in states if one != "queued"], name
        for line, wanted in zip(lines, expected, strict=True):
            assert wanted.items() <= line.items(), (name, line)
            if name not in UNREAD and line["state"] in WORKING:
                assert (line["vendor"], line["model"]) == ("openai", "gpt-4o"), (name, line)
    _no_secret(scene)


def _no_secret(scene: Scene) -> None:
    said = scene.output
    assert "dropped: " in said, "a debug line, or this would find too little"
    assert [line for line in said.splitlines() if CANARY in line] == []
    assert API_KEY not in said
    if scene.settings["ROUTER_WORKER_LOG_FORMAT"] == "json":
        assert [line for line in said.splitlines() if not line.startswith('{"at": "')] == []
    bodies = b"".join(request.body for request in scene.gate.requests)
    assert CANARY.encode() in bodies, "this would find nothing"


def test_a_request_id_that_is_the_key_is_hidden(
    gate: Gate, client: Client, redis: redis_library.Redis, worker: Worker
) -> None:
    """Some servers repeat the key that they refuse, in any place."""
    gate.answer(whole({"error": {"message": "no"}}, 401, x_request_id=f"req-{API_KEY}"))
    gate.answer(whole({"choices": [{"message": {"content": "ok"}}]}, x_request_id=API_KEY))
    for _ in range(2):
        task = client.chat("gpt-4o", [{"role": "user", "content": new_id()}]).id
        ended(redis, task)
        assert API_KEY not in repr(redis.hgetall(KEYS.record(task)))
    until(lambda: "(not shown)" in worker.output, "its line")
    assert API_KEY not in worker.output
