"""One trace a task: from its enqueue through each attempt to the call, and nothing else."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis as redis_library
from opentelemetry.trace import TraceFlags

from api_contracts.client import Client
from api_contracts.events import Chunk
from tests.conftest import StartValkey, StartWorker
from tests.parts import answers, foreign
from tests.parts.collector import Collector, Exported
from tests.parts.following import ended, error_of, log_of, result_of
from tests.parts.gate import Do, Gate, stream, whole
from tests.parts.program import ROOT, without_settings
from tests.parts.tasks import chat
from tests.parts.wait import until
from tests.parts.worker import API_KEY, Worker
from tests.traces.conftest import RETRIES
from worker import embedded
from worker.tracing import FLUSH_S

Json = dict[str, Any]

MESSAGES: Final = [{"role": "user", "content": "hello"}]
USAGE: Final = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
GOOD: Final = whole(
    {"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]}
)
BUSY: Final = whole({"error": {"message": "busy"}}, 503, x_request_id="req-1")
*CHUNKS, DONE = answers.openai("one ", "two")
STREAM: Final = stream(*CHUNKS, answers.event({"choices": [], "usage": USAGE}), DONE)
HALF: Final = stream(*answers.openai("one ", finish=False), Do.HANG)

#: A trace of another program's: the trace and the span in which it enqueues.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
#: A lease that ends soon.
QUICK: Final = {"ROUTER_WORKER_LEASE_S": "2", "ROUTER_WORKER_HEARTBEAT_S": "0.5"}

#: A producer that traces as OpenTelemetry's own guide has it.
PRODUCER: Final = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from api_contracts.client import Client

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
with Client(sys.argv[1]) as client:
    question = [{"role": "user", "content": "hello"}]
    print(client.chat("gpt-4o", question, stream=True).id)
"""


def run(code: str, *arguments: str, **settings: str) -> str:
    """Run a Python program; return what it prints."""
    environment = without_settings(os.environ) | {"PYTHONPATH": str(ROOT)} | settings
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def trace_of(collector: Collector, task: str, count: int) -> list[Exported]:
    """Wait until so many spans are in a task's trace; return them as they began."""

    def spans() -> list[Exported]:
        traces = {
            span.trace_id
            for span in collector.spans
            if span.attributes.get("messaging.message.id") == task
        }
        assert len(traces) <= 1, "more than one trace"
        return [span for span in collector.spans if span.trace_id in traces]

    until(lambda: len(spans()) >= count, f"{count} spans of task {task}")
    return sorted(spans(), key=lambda span: span.began)


@pytest.fixture
def own() -> Iterator[Collector]:
    """A collector of the test's own: whatever comes, is of its workers."""
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def server(start_valkey: StartValkey) -> embedded.EmbeddedServer:
    """A server of the test's own: the workers of other tests take none of its tasks."""
    return start_valkey()


@pytest.fixture(name="producer")
def own_client(server: embedded.EmbeddedServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture(name="records")
def own_redis(server: embedded.EmbeddedServer) -> Iterator[redis_library.Redis]:
    with redis_library.Redis.from_url(server.url) as redis:
        yield redis


Start = Callable[..., Worker]


@pytest.fixture
def start(
    worker_process: StartWorker, gate: Gate, server: embedded.EmbeddedServer, own: Collector
) -> Start:
    """Start a worker on that server which exports to that collector, with more settings."""

    def start(**settings: str) -> Worker:
        defaults: Any = {"REDIS_URL": server.url, **RETRIES, **own.settings}
        return worker_process(gate.url, **{**defaults, **settings})

    return start


def test_one_trace_leads_from_the_enqueue_through_each_attempt_to_the_call(
    start: Start, gate: Gate, own: Collector, server: embedded.EmbeddedServer,
    records: redis_library.Redis,
) -> None:  # fmt: skip
    worker = start()
    gate.answer(BUSY, STREAM)
    task = run(PRODUCER, server.url, OTEL_SERVICE_NAME="a producer", **own.settings)
    result = result_of(records, task)
    own.wait_for(5)
    worker.stop()
    send, first, refused, second, answered = sorted(own.spans, key=lambda span: span.began)
    assert [(span.name, span.kind) for span in (send, first, refused, second, answered)] == [
        ("send router.interactive", "producer"),
        ("process router.interactive", "consumer"),
        ("chat gpt-4o", "client"),
        ("process router.interactive", "consumer"),
        ("chat gpt-4o", "client"),
    ]
    assert {span.trace_id for span in own.spans} == {send.trace_id}
    parents = [span.parent_id for span in (send, first, refused, second, answered)]
    assert parents == ["", send.span_id, first.span_id, send.span_id, second.span_id]
    assert [span.links for span in (send, first, refused, answered)] == [()] * 4
    assert second.links == ((first.trace_id, first.span_id),)
    # What the router is told, and what happened in between is not.
    for request, span in zip(gate.requests, (refused, answered), strict=True):
        assert request.headers["traceparent"].startswith(span.place)
        assert "tracestate" not in request.headers
    assert [span.failed for span in (send, first, refused, second, answered)] == [
        False, True, True, False, False,
    ]  # fmt: skip
    assert {(span.words, span.events) for span in own.spans} == {("", 0)}
    assert first.began <= refused.began <= refused.ended <= first.ended <= second.began
    assert second.began <= answered.began <= answered.ended <= second.ended
    messages = {
        "messaging.system": "celery",
        "messaging.destination.name": "router.interactive",
        "messaging.message.id": task,
        "router_worker.kind": "chat",
    }
    sending = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    processing = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert send.attributes == messages | sending
    assert first.attributes == {
        **messages, **processing,
        "router_worker.attempt": 1,
        "router_worker.outcome": "retrying",
        "error.type": "overloaded",
    }  # fmt: skip
    assert second.attributes == {
        **messages, **processing, "router_worker.attempt": 2, "router_worker.outcome": "completed",
    }  # fmt: skip
    call: Json = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": int(gate.url.rpartition(":")[2]),
    }
    assert refused.attributes == {
        **call,
        "http.response.status_code": 503,
        "router_worker.request_id": "req-1",
        "error.type": "overloaded",
    }
    waited: Any = result.timings.first_chunk_ms
    assert answered.attributes == {
        **call,
        "http.response.status_code": 200,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": waited / 1000,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }
    assert send.resource["service.name"] == "a producer"
    assert second.resource["service.name"] == "router-worker"
    assert second.resource["service.instance.id"].startswith("router-worker-")


def test_a_native_call_to_anthropic_is_traced_in_its_own_words(
    worker: Worker, gate: Gate, client: Client, collector: Collector
) -> None:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-5-haiku",
        "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 5},
    }  # fmt: skip
    gate.answer(whole(message, request_id="req_011"))
    request = {"model": "claude-3-5", "max_tokens": 9, "messages": MESSAGES}
    task = client.native("/v1/messages", request)
    attempt, call = trace_of(collector, task.id, 2)
    assert attempt.attributes["router_worker.kind"] == "native"
    assert (call.name, call.kind, call.parent_id) == ("chat claude-3-5", "client", attempt.span_id)
    told = {name: value for name, value in call.attributes.items() if "server" not in name}
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-3-5",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "router_worker.request_id": "req_011",
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "claude-3-5-haiku",
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 2,
    }


@pytest.mark.parametrize(
    ("path", "vendor", "name", "provider"),
    [
        (f"{answers.GEMINI}:generateContent", "auto", "generate_content gemini-1.5-pro-latest",
         "gcp.gen_ai"),
        ("/v1/chat/completions", "aws", "chat m", "aws.bedrock"),
        ("/v1/chat/completions", "new-vendor", "chat m", "new-vendor"),
        ("/v1/embeddings", "openai", "embeddings m", "openai"),
        ("/api/v3/contents/generations/tasks", "auto", "native m", "auto"),
    ],
)  # fmt: skip
def test_a_call_is_named_by_what_it_asks_for_and_of_whom(  # noqa: PLR0913, PLR0917
    worker: Worker, gate: Gate, client: Client, collector: Collector,
    path: str, vendor: str, name: str, provider: str,
) -> None:  # fmt: skip
    gate.answer(whole({"error": {"message": "no"}}, 400))
    task = client.native(path, {"model": "m", "contents": MESSAGES}, vendor=vendor)
    _, call = trace_of(collector, task.id, 2)
    assert (call.name, call.attributes["gen_ai.provider.name"]) == (name, provider)


def test_the_attempts_of_a_task_that_says_no_trace_have_one_of_their_own(
    worker: Worker, gate: Gate, redis: redis_library.Redis, collector: Collector
) -> None:
    gate.answer(BUSY, BUSY, GOOD)
    task = foreign.send(redis)
    first, _, second, _, third, _ = trace_of(collector, task, 6)
    assert [span.parent_id for span in (first, second, third)] == [""] * 3
    assert second.links == ((first.trace_id, first.span_id),)
    assert third.links == ((first.trace_id, second.span_id),)


def test_a_foreign_producer_may_say_its_trace(
    worker: Worker, gate: Gate, redis: redis_library.Redis, collector: Collector
) -> None:
    gate.answer(GOOD)
    trace = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=b:1,c@d=e f"}
    task = foreign.send(redis, options={"trace": trace})
    attempt, call = trace_of(collector, task, 2)
    assert (attempt.trace_id, attempt.parent_id) == (TRACE, SPAN)
    assert attempt.state == call.state == trace["tracestate"]
    (request,) = gate.requests
    assert "tracestate" not in request.headers


def test_a_trace_that_its_producer_did_not_sample_is_not_exported_but_goes_on(
    worker: Worker, gate: Gate, redis: redis_library.Redis, collector: Collector
) -> None:
    gate.answer(GOOD, GOOD)
    trace = {"traceparent": f"00-{'1' * 32}-{SPAN}-00"}
    ended(redis, foreign.send(redis, options={"trace": trace}))
    trace_of(collector, foreign.send(redis), 2)
    assert "1" * 32 not in {span.trace_id for span in collector.spans}
    told = gate.requests[0].headers["traceparent"]
    assert told.startswith(f"00-{'1' * 32}-")
    assert told.endswith("-00")


def test_a_stream_that_is_cancelled_ends_both_its_spans(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis, collector: Collector
) -> None:
    gate.answer(HALF)
    task = client.chat("gpt-4o", MESSAGES, stream=True)
    until(lambda: any(isinstance(one, Chunk) for one in log_of(redis, task.id)), "a chunk")
    task.cancel()
    attempt, call = trace_of(collector, task.id, 2)
    assert (attempt.attributes["router_worker.outcome"], attempt.failed) == ("cancelled", False)
    assert (call.attributes["error.type"], call.failed) == ("interrupted", True)
    assert call.attributes["http.response.status_code"] == 200


def test_a_usage_that_no_span_can_hold_costs_no_other_span(
    worker: Worker, gate: Gate, client: Client, collector: Collector
) -> None:
    choices = [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 10**30, "completion_tokens": 7}
    gate.answer(whole({"choices": choices, "usage": usage, "model": 7, "id": ["x"]}))
    task = client.chat("gpt-4o", MESSAGES)
    _, call = trace_of(collector, task.id, 2)
    assert call.attributes["gen_ai.usage.output_tokens"] == 7
    absent = {"gen_ai.usage.input_tokens", "gen_ai.response.model", "gen_ai.response.id"}
    assert not absent & set(call.attributes)


def test_an_attempt_that_is_handed_back_is_linked_to_by_the_next_workers(
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis
) -> None:
    first = start(ROUTER_WORKER_DRAIN_S="0")
    gate.answer(HALF, STREAM)
    task = producer.chat("gpt-4o", MESSAGES, stream=True).id
    until(lambda: any(isinstance(one, Chunk) for one in log_of(records, task)), "a chunk")
    first.stop()
    start()
    result_of(records, task)
    one, _, two, _ = trace_of(own, task, 4)
    assert one.attributes["router_worker.outcome"] == "handed_back"
    assert (two.attributes["router_worker.outcome"], two.failed) == ("completed", False)
    assert two.links == ((one.trace_id, one.span_id),)
    assert one.resource["service.instance.id"] != two.resource["service.instance.id"]


def test_an_attempt_after_a_workers_death_is_linked_to_one_that_never_came(
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis
) -> None:
    """It makes no call here, and has no span of one."""
    first = start(**QUICK)
    gate.answer(HALF)
    options = {"on_interrupt": "fail"}
    task = producer.chat("gpt-4o", MESSAGES, stream=True, options=options).id
    until(lambda: any(isinstance(one, Chunk) for one in log_of(records, task)), "a chunk")
    first.kill()
    last = start(**QUICK)
    # Killed before its first heartbeat: the enqueue's own date, 20 s on, is what counts.
    assert error_of(records, task, within=40)["code"] == "interrupted"
    last.stop()
    (attempt,) = own.spans
    assert attempt.attributes["router_worker.attempt"] == 2
    assert attempt.attributes["error.type"] == "interrupted"
    ((trace_id, _),) = attempt.links
    assert trace_id == attempt.trace_id


#: Prints what a program that traces has imported, when it ends. Of OpenTelemetry's SDK, redis-py
#: imports what it finds, whoever traces.
TELL_IMPORTED: Final = """
import atexit, sys
names = ("opentelemetry.exporter", "worker.tracing")
atexit.register(lambda: print("imported:", *(set(names) & set(sys.modules)), file=sys.stderr))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_where_no_traces_are_wanted_nothing_is_imported_sent_or_exported(  # noqa: PLR0913, PLR0917
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis,
    tmp_path: Path, settings: dict[str, str],
) -> None:  # fmt: skip
    (tmp_path / "sitecustomize.py").write_text(TELL_IMPORTED)
    worker = start(PYTHONPATH=f"{tmp_path}:{ROOT}", **settings)
    gate.answer(GOOD)
    trace = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    result_of(records, producer.chat("gpt-4o", MESSAGES, options={"trace": trace}).id)
    worker.stop()
    (request,) = gate.requests
    assert "traceparent" not in request.headers
    assert own.requests == 0
    assert worker.output.endswith("imported:\n")


def test_a_worker_without_the_extra_says_so_and_works(  # noqa: PLR0913, PLR0917
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis,
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry'] = None")
    worker = start(PYTHONPATH=f"{tmp_path}:{ROOT}")
    gate.answer(GOOD)
    result_of(records, producer.chat("gpt-4o", MESSAGES).id)
    worker.stop()
    advice = r"there is no opentelemetry[.a-z]*; pip install 'router-worker\[otel\]'\n"
    assert re.search(f"nothing is traced: {advice}", worker.output)
    assert own.requests == 0


def test_a_variable_that_the_sdk_refuses_costs_the_traces_and_not_the_worker(
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis
) -> None:
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization key-of-the-collector"}
    worker = start(OTEL_BSP_MAX_QUEUE_SIZE="7", **headers)
    gate.answer(GOOD)
    result_of(records, producer.chat("gpt-4o", MESSAGES).id)
    worker.stop()
    assert re.search(r"nothing is traced: max_export_batch_size must be .*\n", worker.output)
    assert "Traceback" not in worker.output
    assert "key-of-the-collector" not in worker.output
    assert own.requests == 0


def test_the_sdks_own_variables_say_which_traces_are_sampled(
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis
) -> None:
    worker = start(OTEL_TRACES_SAMPLER="always_off")
    gate.answer(GOOD)
    result_of(records, producer.chat("gpt-4o", MESSAGES).id)
    worker.stop()
    assert own.requests == 0
    flags = gate.requests[0].headers["traceparent"].rpartition("-")[2]
    assert int(flags, 16) & TraceFlags.SAMPLED == 0


def test_a_worker_that_leaves_exports_its_last_spans(
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis
) -> None:
    worker = start(OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_SERVICE_NAME="mine")
    gate.answer(GOOD)
    result_of(records, producer.chat("gpt-4o", MESSAGES).id)
    assert own.spans == []
    assert worker.stop() == 0
    assert [span.kind for span in own.spans] == ["client", "consumer"]
    assert {span.resource["service.name"] for span in own.spans} == {"mine"}


def test_a_collector_that_hangs_does_not_keep_a_worker_from_leaving(
    start: Start, gate: Gate, own: Collector, producer: Client, records: redis_library.Redis
) -> None:
    """The SDK alone would wait for it for 30 s."""
    worker = start(OTEL_EXPORTER_OTLP_TIMEOUT="600")
    own.hang()
    gate.answer(GOOD)
    result_of(records, producer.chat("gpt-4o", MESSAGES).id)
    until(lambda: own.requests, "an export")
    assert worker.stop(within=20) == 0
    assert f"the last spans could not be exported within {FLUSH_S:g} s" in worker.output


def test_no_span_has_a_secret_of_a_task_an_answer_or_the_worker(
    worker: Worker, gate: Gate, redis: redis_library.Redis, collector: Collector
) -> None:
    canary = "canary"
    said = {"role": "user", "content": canary}
    body = {"model": "gpt-4o", "messages": [said], "user": canary, "x": {canary: canary}}
    task: Json = {
        "request": body | {"tools": [{"type": "function", "function": {"name": canary}}]},
        "headers": {"x-canary": canary},
        "options": {
            "tenant": canary,
            "idempotency_key": canary,
            "metadata": {canary: canary},
            "retry": {"max_attempts": 2, "base_s": 0},
        },
    }
    echo = {"error": {"message": f"{canary} {API_KEY}", "type": canary, "code": API_KEY}}
    gate.answer(
        whole(echo, 503, x_request_id=API_KEY),
        whole({"choices": [{"message": {"content": canary}, "finish_reason": "stop"}]}),
    )
    trace_of(collector, foreign.send(redis, chat() | task), 4)
    native = {
        "kind": "native",
        "path": f"/v1/messages?beta={canary}",
        "request": {"model": "m", "max_tokens": 9, "system": canary, "messages": [said]},
    }
    gate.answer(whole(f"{canary} {API_KEY}".encode(), 400, content_type="text/plain"))
    task_id = "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c77"
    redis.lpush(
        foreign.QUEUE, foreign.message(native | {"id": task_id}, task="router.native", root=canary)
    )
    trace_of(collector, task_id, 2)
    assert all(canary.encode() in request.body for request in gate.requests), "it finds nothing"
    assert len(gate.requests) == 3
    assert canary.encode() not in collector.everything
    assert API_KEY.encode() not in collector.everything
