"""What hangs is left, and llmock's judgement of how we take what it does to us."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.e2e.conftest import StartModuleWorker
from tests.parts import answers
from tests.parts.answers import GEMINI
from tests.parts.following import error_of, result_of
from tests.parts.gate import Answer, Do, Gate, Pause, stream
from tests.parts.llmock import Llmock
from tests.parts.worker import Worker
from worker.attempt import TIMER_LAG

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("impatient")

#: In seconds, far enough apart to tell which one it was; the gap is long enough for a machine that
#: stands still for a moment, in which a drip does not come either.
FIRST_CHUNK_S, GAP_S, TOTAL_S = 4.5, 2.0, 7.0
#: How much later than due a call may be left on a busy machine, in seconds.
BUSY_S = 2.0
MESSAGES = [{"role": "user", "content": "hello"}]
ONCE = {"retry": {"max_attempts": 1}}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DRIP: Answer = tuple(
    step for _ in range(120) for step in (answers.openai("drop ", finish=False)[0], Pause(0.1))
)
KEPT_ALIVE: Answer = tuple(step for _ in range(120) for step in (b": wait\n\n", Pause(0.1)))
PROTOCOLS: dict[str, tuple[str, Json]] = {
    "openai": ("/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES}),
    "anthropic": ("/v1/messages", {"model": "claude-3", "max_tokens": 9, "messages": MESSAGES}),
    "gemini": (
        f"{GEMINI.rpartition('/')[0]}/{{model}}:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    ),
}


REFUSED = "refused for good"
#: What llmock does to a call, and what each failed attempt is taken for. Each fault comes once:
#: full jitter may by chance make the second delay the shorter, and llmock would call that constant.
#: Its malformed chunk is left out: llmock sends the rest at once, and then cannot tell whether a
#: client that hung up had read it.
FAULTS: dict[str, Json] = {
    "limit": {"type": "fail", "status": 429, "retry_after": 0.3},
    "overload": {"type": "fail", "status": 529, "retry_after": 0.2, "times": 2},
    "failure": {"type": "fail", "status": 500},
    "disconnect": {"type": "stream_fault", "kind": "disconnect", "after_chunks": 2},
    "truncate": {"type": "stream_fault", "kind": "truncate", "after_chunks": 2},
    "stall": {"type": "stream_fault", "kind": "stall", "stall_seconds": 30},
    "slow": {"type": "slow_first_token", "seconds": 0.6},
    "slower": {"type": "slow_first_token", "seconds": 30},
    **{f"refusal-{n}": {"type": "fail", "status": n} for n in (400, 401, 403, 404, 422)},
}
TAKEN_FOR: dict[str, list[str]] = {
    "limit": ["rate_limited"],
    "overload": ["overloaded"] * 2,
    "failure": ["upstream_error"],
    "disconnect": ["truncated"],
    "truncate": ["truncated"],
    "stall": ["timeout"],
    "slow": [],
    "slower": ["timeout"],
} | {name: [REFUSED] for name in FAULTS if name.startswith("refusal")}


@pytest.fixture(scope="module")
def _impatient(module_worker: StartModuleWorker) -> Worker:
    return module_worker(
        ROUTER_WORKER_CONNECT_S="0.5",
        ROUTER_WORKER_FIRST_CHUNK_S=str(FIRST_CHUNK_S),
        ROUTER_WORKER_GAP_S=str(GAP_S),
        ROUTER_WORKER_TOTAL_S=str(TOTAL_S),
    )


@pytest.fixture
def impatient(_impatient: Worker, gate: Gate) -> Worker:
    """A worker with short time-outs that calls the gate."""
    return _impatient


@pytest.fixture(name="redis")
def module_redis(redis_url: str, module_url: str) -> Iterator[redis_library.Redis]:
    """A client of its database, emptied."""
    with redis_library.Redis.from_url(module_url) as client:
        yield client


@pytest.fixture(name="client")
def module_client(redis: redis_library.Redis, module_url: str) -> Iterator[Client]:
    """A producer and subscriber there."""
    with Client(module_url) as client:
        yield client


#: What the router does, whether a stream was asked for, after how long it is left, and the reason.
HANGS: list[tuple[str, Answer, bool, float, str]] = [
    ("no-answer", (Do.HANG,), True, FIRST_CHUNK_S, "no chunk came within 4.5 s"),
    ("no-chunk", (HEAD, Do.HANG), True, FIRST_CHUNK_S, "no chunk came within 4.5 s"),
    ("signs-of-life-alone", stream(*KEPT_ALIVE), True, FIRST_CHUNK_S, "no chunk came within 4.5 s"),
    ("stall", stream(DRIP[0], Do.HANG), True, GAP_S, "the stream paused for longer than 2 s"),
    (
        "stall-in-the-middle",
        stream(*DRIP[:16], Do.HANG),
        True,
        0.7 + GAP_S,  # 7 pauses come between 8 chunks
        "the stream paused for longer than 2 s",
    ),
    ("endless", stream(*DRIP), True, TOTAL_S, "the call took longer than 7 s"),
    ("no-whole-answer", (Do.HANG,), False, TOTAL_S, "the call took longer than 7 s"),
    (
        "half-an-answer",
        (b'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"a', Do.HANG),
        False,
        TOTAL_S,
        "the call took longer than 7 s",
    ),
]


def test_whatever_hangs_is_left_in_its_time_and_the_error_says_which(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    tasks = {}
    for name, answer, streamed, _, _ in HANGS:
        gate.answer(answer, to=f'"{name}"')
        messages = [{"role": "user", "content": name}]
        tasks[name] = client.chat("gpt-4o", messages, stream=streamed, options=ONCE).id
    for name, _, _, after, reason in HANGS:
        error = error_of(redis, tasks[name], within=30)
        assert (name, error["code"], error["message"]) == (
            *(name, "timeout", f"{reason} (no retry: 1 of 1 calls failed)"),
        )
        status = client.status(tasks[name])
        seconds = ((status.ended_at or 0) - (status.claimed_at or 0)) / 1000
        # The timer lags behind the last byte by a share of the gap.
        assert after - 0.01 <= seconds < after + TIMER_LAG * GAP_S + BUSY_S, name


def test_a_call_that_hangs_is_tried_again(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(stream(DRIP[0], Do.HANG), stream(*answers.openai("Now.")))
    result = result_of(redis, client.chat("gpt-4o", MESSAGES, stream=True).id)
    assert [one.outcome for one in result.attempts] == ["timeout", "completed"]


def test_a_finished_stream_that_stays_open_is_an_answer(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(stream(*answers.openai("Now."), Do.HANG))
    result = result_of(redis, client.chat("gpt-4o", MESSAGES, stream=True).id)
    assert (result.finish_reason, len(result.attempts)) == ("stop", 1)


def test_llmock_finds_no_fault_with_how_its_faults_are_taken(
    llmock: Llmock, gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.lead_to(llmock.url)
    rows = [(protocol, fault) for protocol in PROTOCOLS for fault in FAULTS]
    # Each call has a model of its own, by which its fault finds it.
    llmock.scenario(*(FAULTS[fault] | {"match": {"model": f"{p}-{fault}"}} for p, fault in rows))
    tasks = [_begin(client, protocol, fault) for protocol, fault in rows]
    for (protocol, fault), task in zip(rows, tasks, strict=True):
        outcomes = TAKEN_FOR[fault]
        if outcomes == [REFUSED]:
            error = error_of(redis, task, within=30)
            assert (error["status"], error["attempts"]) == (FAULTS[fault]["status"], 1)
        else:
            attempts = result_of(redis, task, within=30).attempts
            told = [attempt.outcome for attempt in attempts]
            assert (protocol, fault, told) == (protocol, fault, [*outcomes, "completed"])
    verdict = llmock.verdict()
    assert verdict["findings"] == []
    assert verdict["passed"] is True
    assert verdict["calls"] == len(rows)


def _begin(client: Client, protocol: str, fault: str) -> str:
    path, request = PROTOCOLS[protocol]
    model = f"{protocol}-{fault}"
    # llmock tells one call from another by its body.
    request = json.loads(json.dumps(request).replace("hello", model))
    request |= {"model": model} if "model" in request else {}
    # The contract's own back-off: llmock needs a moment to note that a call has ended.
    options = {"stream": True, "retry": {"base_s": 1.0, "cap_s": 60.0}}
    return client.native(path.format(model=model), request, options=options).id
