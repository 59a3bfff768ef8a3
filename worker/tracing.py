"""The spans of attempts and of their calls: the only importer of OpenTelemetry, which is an extra.

    send (the producer's) ──┬──> process, attempt 1 ──> chat ──> the router
                            └──> process, attempt 2 ──> chat ──> the router
                                      └─ linked to attempt 1

1. A task says where in a trace it was enqueued (``options.trace``). One that does not has a trace
   of its own, whose id is made of the task's, so that all of its attempts are in it.
2. An attempt's span has an id that is made of the task's and of its number. So the next one can be
   linked to it, whichever worker makes it, and nothing is kept for that. Where its worker died, or
   did not trace, the link leads nowhere. After a failover that forgot a claim, two attempts may
   have one number, and one id.
3. A call's span ends when its answer has come whole, or what went wrong with it. A call that was
   never sent has no end, and is not exported.

Names are those of OpenTelemetry's conventions for messaging and for generative AI, as of 2026-10.
No span has a prompt, an answer, an error's words or a key in it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from api_contracts.errors import ErrorCode
from api_contracts.requests import Task
from worker.claim import Claim
from worker.errors import clip
from worker.logs import TEXT_LIMIT
from worker.outcome import Answered, Unanswered
from worker.protocols.base import Call, ProtocolName
from worker.telemetry import version_of

#: Name of the service, where OTEL_SERVICE_NAME says no other, and of what makes the spans.
SERVICE: Final = "router-worker"
#: Longest wait for the last spans to be exported, in seconds. With the default grace and the time
#: for handing back it is what is left of the 30 s after which Kubernetes kills.
FLUSH_S: Final = 2.0
#: Bytes of the ids of traces and of spans.
_TRACE_ID, _SPAN_ID = 16, 8

#: `gen_ai.operation.name` by protocol.
_OPERATIONS: Final[Mapping[ProtocolName, str]] = {
    "openai": "chat",
    "anthropic": "chat",
    "gemini": "generate_content",
}
#: `gen_ai.provider.name` by vendor, where the convention has another word.
_PROVIDERS: Final = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gen_ai",
    "mistral": "mistral_ai",
    "x": "x_ai",
}
#: The same where the router picks the vendor: whose language is spoken.
_DIALECTS: Final[Mapping[ProtocolName, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gen_ai",
}
_PORTS: Final = {"https": 443, "http": 80}

#: What may be a secret in an address: who asks, and what is asked for.
_PRIVATE: Final = re.compile(r"(?<=://)[^/\s@]*@|\?[^\s)]*")

_PROPAGATOR: Final = TraceContextTextMapPropagator()

logger = logging.getLogger(__name__)


class Tracing:
    """Makes the spans of one worker process; they are exported from a thread of the SDK's.

    To use it in one thread only, the loop's. Where to, how often, which of them: the SDK's own
    environment variables.
    """

    def __init__(self, base_url: str, worker: str) -> None:
        """Begin to export, for the worker of this name, which calls the router at this URL."""
        self._ids = _Ids()
        # Not the process's own: others may instrument what they like, and it is not exported here.
        self._provider = TracerProvider(
            resource=_resource(worker), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(SERVICE, version_of("router-worker"))
        url = urlsplit(base_url)
        self._server: dict[str, Any] = {
            "server.address": url.hostname or "",
            "server.port": url.port or _PORTS.get(url.scheme, 0),
        }

    def begin(self, claim: Claim, task: Task, ago_s: float) -> AttemptSpan:
        """Begin the span of an attempt, which began so many seconds ago."""
        task_id, attempt, said = claim.task_id, claim.attempt, task.options.trace
        context = _PROPAGATOR.extract(said.model_dump(), Context()) if said else Context()
        sent = get_current_span(context).get_span_context()
        trace_id = sent.trace_id if sent.is_valid else _hashed(task_id, _TRACE_ID)
        links = []
        if attempt > 1:
            before = SpanContext(trace_id, _attempt_id(task_id, attempt - 1), is_remote=True)
            links.append(Link(before))
        with self._ids.known(trace_id, _attempt_id(task_id, attempt)):
            span = self._tracer.start_span(
                f"process {claim.queue}",
                context=context,
                kind=SpanKind.CONSUMER,
                links=links,
                start_time=time.time_ns() - int(ago_s * 1e9),
                attributes={
                    "messaging.system": "celery",
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": str(claim.queue),
                    "messaging.message.id": task_id,
                    "router_worker.kind": task.kind,
                    "router_worker.attempt": attempt,
                },
            )
        return AttemptSpan(self, span, task)

    def begin_call(self, attempt: Span, task: Task, call: Call, protocol: ProtocolName) -> Span:
        """Begin the span of a call."""
        plain = "embeddings" if call.path.endswith("/embeddings") else task.kind
        operation = _OPERATIONS.get(protocol, plain)
        model = clip(task.model, TEXT_LIMIT) if task.model else None
        told: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _provider(task.vendor, protocol),
            "gen_ai.request.model": model,
            "gen_ai.request.stream": call.stream or None,
            "http.request.method": call.method,
        }
        return self._tracer.start_span(
            f"{operation} {model}" if model else operation,
            context=set_span_in_context(attempt, Context()),
            kind=SpanKind.CLIENT,
            attributes=_said(self._server | told),
        )

    def close(self) -> None:
        """Export what has not been, for so long as that may take."""
        # The SDK knows no time limit of its own that holds.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(FLUSH_S)
        if last.is_alive():
            logger.warning("the last spans could not be exported within %g s", FLUSH_S)


def try_export(timeout_s: float) -> str | None:
    """Export no span at all, as spans are exported; say what the SDK has against it, if anything.

    ValueError where its own variables cannot be read. What is said of an address leaves out its
    parameters, and who is named in it.
    """
    with _hearing() as words:
        exporter = OTLPSpanExporter(timeout=timeout_s)
        words.clear()  # what is said of settings may quote a header
        done = exporter.export(())
        exporter.shutdown()  # type: ignore[no-untyped-call]
    if done is SpanExportResult.SUCCESS:
        return None
    return _PRIVATE.sub("…", words[0]) if words else "it was not taken"


@contextmanager
def _hearing() -> Iterator[list[str]]:
    """Collect what the SDK warns of inside the block: nobody else is told of it meanwhile."""
    log, handler = logging.getLogger("opentelemetry"), _Hearing()
    before, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield handler.words
    finally:
        log.removeHandler(handler)
        log.propagate = before


class _Hearing(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


class AttemptSpan:
    """The span of an attempt, and that of its call."""

    def __init__(self, tracing: Tracing, span: Span, task: Task) -> None:
        """Take a span that has begun."""
        self._tracing = tracing
        self._span = span
        self._task = task
        self._call: Span | None = None

    def calling(self, call: Call, protocol: ProtocolName) -> Call:
        """Begin the call's span; return the call with its place in the trace.

        What tracing systems have added for themselves is not for the router.
        """
        self._call = self._tracing.begin_call(self._span, self._task, call, protocol)
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, set_span_in_context(self._call, Context()))
        headers.pop("tracestate", None)
        return replace(call, headers={**call.headers, **headers})

    def called(self, outcome: Answered | Unanswered) -> None:
        """End the call's span with what it came to."""
        if self._call is None:
            return
        if isinstance(outcome, Answered):
            told = _answered(outcome)
        else:
            told = {}
            _fail(self._call, outcome.failure.code)
        self._call.set_attributes(told | _called(outcome))
        self._call.end()

    def end(self, outcome: str, code: ErrorCode | None) -> None:
        """End the attempt's span; ``outcome`` is the state that followed, or why none did."""
        self._span.set_attribute("router_worker.outcome", str(outcome))
        if code is not None:
            _fail(self._span, code)
        self._span.end()


class _Ids(RandomIdGenerator):
    """Random ids, but for those that are known before.

    The SDK asks for them while it begins a span, in the same thread.
    """

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    @contextmanager
    def known(self, trace_id: int, span_id: int) -> Iterator[None]:
        """Give a span that begins in the block this id, and its trace that, unless it has one."""
        self._trace_id, self._span_id = trace_id, span_id
        try:
            yield
        finally:
            self._trace_id = self._span_id = 0

    def generate_trace_id(self) -> int:
        return self._trace_id or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self._span_id or super().generate_span_id()


def _attempt_id(task_id: str, attempt: int) -> int:
    return _hashed(f"{task_id} {attempt}", _SPAN_ID)


def _hashed(text: str, size: int) -> int:
    """Make an id of so many bytes, which looks random: samplers count on that. None is 0."""
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest()) or 1


def _provider(vendor: str, protocol: ProtocolName) -> str:
    if vendor == "auto":
        return _DIALECTS.get(protocol, vendor)
    return _PROVIDERS.get(vendor, vendor)


def _called(outcome: Answered | Unanswered) -> dict[str, Any]:
    """Say what is known of any call. An estimate of its tokens is no usage."""
    usage = outcome.usage
    told: dict[str, Any] = {
        "http.response.status_code": outcome.status,
        "router_worker.request_id": _text(outcome.request_id),
    }
    if usage.provenance == "reported":
        told |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        }
    return _said(told)


def _answered(outcome: Answered) -> dict[str, Any]:
    """Say what is known of an answer, but what it says itself."""
    answer, first_ms = outcome.answer, outcome.first_chunk_ms
    response = answer.response if isinstance(answer.response, dict) else {}
    finish = _text(answer.finish_reason)
    # Gemini has words of its own for both.
    model = response.get("model") or response.get("modelVersion")
    response_id = response.get("id") or response.get("responseId")
    return _said(
        {
            "gen_ai.response.model": _text(model),
            "gen_ai.response.id": _text(response_id),
            "gen_ai.response.finish_reasons": [finish] if finish else None,
            "gen_ai.response.time_to_first_chunk": None if first_ms is None else first_ms / 1000,
        }
    )


def _text(value: object) -> str | None:
    """Cut a text of others; None where it is none, or empty."""
    return clip(value, TEXT_LIMIT) if isinstance(value, str) and value else None


def _said(told: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    return {name: value for name, value in told.items() if value is not None}


def _fail(span: Span, code: ErrorCode) -> None:
    span.set_attribute("error.type", code.value)
    span.set_status(StatusCode.ERROR)


def _resource(worker: str) -> Resource:
    """Say who exports; the environment has the last word."""
    ours = {
        "service.name": SERVICE,
        "service.version": version_of("router-worker"),
        "service.instance.id": worker,
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})
