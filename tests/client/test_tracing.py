"""An enqueue is a span of the producer's trace, and the task goes on in it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from redis import Redis

from api_contracts.client import Client
from api_contracts.errors import StoreUnavailable, TaskExists
from api_contracts.requests import Task, parse_task
from tests.client.conftest import Shell, StartShell
from tests.parts.program import ROOT, without_settings
from tests.parts.scripts import Scripts, a_task
from tests.parts.web import free_port
from worker import intake

#: A task's trace, as another program has said it.
SAID: Final = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """What this program traces with. Set for good, it would be so in every other test too."""
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return provider


@pytest.fixture
def exporter(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    """Where its spans go."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    provider.shutdown()


def on_record(redis: Redis, task_id: str) -> Task:
    """The task as a worker reads it."""
    record = Scripts(redis).record(task_id)
    return intake.read_record(task_id, "chat", record[b"task"], record[b"request"])


def traceparent(span: ReadableSpan) -> str:
    place = span.get_span_context()
    assert place is not None
    return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"


def told(task: Task) -> str | None:
    return task.options.trace.traceparent if task.options.trace else None


def test_an_enqueue_is_a_producers_span_and_the_task_is_told_it(
    shell: Shell, redis: Redis, exporter: InMemorySpanExporter
) -> None:
    task_id = shell.enqueue(a_task(priority="batch", tenant="web"))
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, span.parent) == ("send router.batch", SpanKind.PRODUCER, None)
    assert span.status.is_unset
    assert span.attributes == {
        "messaging.system": "celery",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "router.batch",
        "messaging.message.id": task_id,
        "router_worker.kind": "chat",
    }
    task = on_record(redis, task_id)
    assert told(task) == traceparent(span)
    assert (task.options.priority, task.options.tenant) == ("batch", "web")


def test_it_is_a_part_of_what_the_program_does(
    redis_url: str, redis: Redis, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    state = TraceState([("a", "b")])
    place = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    with Client(redis_url) as client, trace.use_span(NonRecordingSpan(place)):
        task_id = client.enqueue(a_task()).id
    (span,) = exporter.get_finished_spans()
    assert (span.context.trace_id, span.parent) == (1, place)
    said = on_record(redis, task_id).options.trace
    assert said is not None
    assert said.tracestate == "a=b"


def test_a_state_that_is_too_long_for_a_task_is_left_out(
    redis_url: str, redis: Redis, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    state = TraceState([(name, "x" * 250) for name in "abc"])
    place = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    with Client(redis_url) as client, trace.use_span(NonRecordingSpan(place)):
        task_id = client.enqueue(a_task()).id
    said = on_record(redis, task_id).options.trace
    assert said is not None
    assert said.tracestate == ""


def test_of_many_tasks_each_has_its_span(
    shell: Shell, redis: Redis, exporter: InMemorySpanExporter
) -> None:
    ids = shell.enqueue_all([a_task(str(number)) for number in range(3)])
    spans = exporter.get_finished_spans()
    assert [span.attributes["messaging.message.id"] for span in spans if span.attributes] == ids
    assert [told(on_record(redis, one)) for one in ids] == [traceparent(span) for span in spans]
    assert len({span.context.trace_id for span in spans}) == 3


def test_a_task_that_says_its_trace_is_left_alone(
    shell: Shell, redis: Redis, exporter: InMemorySpanExporter
) -> None:
    task_id = shell.enqueue(a_task(trace=SAID))
    assert told(on_record(redis, task_id)) == SAID["traceparent"]
    assert exporter.get_finished_spans() == ()


def test_the_same_task_in_another_trace_is_the_same_and_keeps_its_first(
    shell: Shell, redis: Redis, exporter: InMemorySpanExporter
) -> None:
    first = shell.enqueue(a_task("hello", idempotency_key="k"))
    again = shell.enqueue(a_task("hello", idempotency_key="k"))
    assert again == first
    one, two = exporter.get_finished_spans()
    assert one.context.trace_id != two.context.trace_id
    assert told(on_record(redis, first)) == traceparent(one)


def test_a_refusal_is_an_error_without_words(shell: Shell, exporter: InMemorySpanExporter) -> None:
    task = a_task("hello")
    shell.enqueue(task)
    with pytest.raises(TaskExists):
        shell.enqueue(a_task("bye").model_copy(update={"id": task.id}))
    good, bad = exporter.get_finished_spans()
    assert good.status.is_ok or good.status.is_unset
    assert bad.attributes
    assert bad.attributes["error.type"] == "TaskExists"
    assert (bad.status.is_ok, bad.status.description, bad.events) == (False, None, ())


def test_one_task_that_is_refused_is_no_error_of_the_others(
    shell: Shell, exporter: InMemorySpanExporter
) -> None:
    task = a_task("hello")
    shell.enqueue(task)
    exporter.clear()
    with pytest.raises(TaskExists):
        shell.enqueue_all([a_task("bye").model_copy(update={"id": task.id}), a_task()])
    assert [span.status.is_unset for span in exporter.get_finished_spans()] == [True, True]


def test_a_redis_that_is_away_is_an_error_of_all(
    start_shell: StartShell, exporter: InMemorySpanExporter
) -> None:
    shell = start_shell(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreUnavailable):
        shell.enqueue_all([a_task(), a_task()])
    spans = exporter.get_finished_spans()
    kinds = [span.attributes["error.type"] for span in spans if span.attributes]
    assert kinds == ["StoreUnavailable"] * 2


def test_where_nobody_traces_a_task_says_no_trace(shell: Shell, redis: Redis) -> None:
    """OpenTelemetry has been imported here, and does nothing."""
    task_id = shell.enqueue(a_task())
    assert b"trace" not in Scripts(redis).record(task_id)[b"task"]


def test_a_program_that_does_not_trace_is_not_made_to(redis_url: str) -> None:
    """redis-py imports of OpenTelemetry what it finds, and we no more."""
    code = (
        "import sys, redis; before = set(sys.modules); "
        "from api_contracts.client import Client; client = Client(sys.argv[1]); "
        "client.chat('m', [{'role': 'user', 'content': 'hello'}]); "
        "new = set(sys.modules) - before; print(*(one for one in new if 'opentelemetry' in one))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, redis_url],
        env=without_settings(os.environ) | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "\n"


def test_content_is_the_same_whatever_its_trace(redis: Redis) -> None:
    """Another program may say another trace when it repeats itself."""
    task = a_task(trace=SAID)
    scripts = Scripts(redis)
    assert scripts.create(task) == b"created"
    other = task.model_dump(exclude_unset=True) | {"options": {}}
    assert scripts.create(parse_task(other)) == b"same"
