"""An enqueue as a span of the program that enqueues, in whose trace the task goes on.

The program's own OpenTelemetry is used, as that program has set it up. Nothing is imported for it:
who traces has done so, and who does not shall not pay for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from api_contracts.errors import InvalidTask
from api_contracts.options import TRACESTATE_LIMIT, Trace
from api_contracts.requests import Task

#: Where OpenTelemetry's tracers are, once somebody has imported them.
_API: Final = "opentelemetry.trace"
_SCOPE: Final = "router-worker"


def sending(tasks: Sequence[Task]) -> AbstractContextManager[Sequence[Task]]:
    """Make a span of each task's enqueue inside the block; give the tasks that know theirs.

    A task that says its trace already is its producer's to trace. No span has an exception's
    words.
    """
    api: Any = sys.modules.get(_API)
    # In the middle of its import it has not all of its names yet.
    provider = api.get_tracer_provider() if hasattr(api, "get_tracer_provider") else None
    if provider is None or isinstance(provider, api.ProxyTracerProvider):
        return nullcontext(tasks)
    return _traced(tasks, api, provider.get_tracer(_SCOPE))


@contextmanager
def _traced(tasks: Sequence[Task], api: Any, tracer: Any) -> Iterator[Sequence[Task]]:
    spans = [None if task.options.trace else _begun(api, tracer, task) for task in tasks]
    begun = [span for span in spans if span is not None]
    try:
        yield [_told(task, span) for task, span in zip(tasks, spans, strict=True)]
    except Exception as error:
        # That one of many is refused says nothing of the others, which are on record.
        if len(tasks) == 1 or not isinstance(error, InvalidTask):
            for span in begun:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(api.StatusCode.ERROR)
        raise
    finally:
        for span in begun:
            span.end()


def _begun(api: Any, tracer: Any, task: Task) -> Any:
    """Begin a task's span; names are those of OpenTelemetry's messaging conventions."""
    queue = str(task.options.queue)
    return tracer.start_span(
        f"send {queue}",
        kind=api.SpanKind.PRODUCER,
        attributes={
            "messaging.system": "celery",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": queue,
            "messaging.message.id": task.id,
            "router_worker.kind": task.kind,
        },
        record_exception=False,
        set_status_on_exception=False,
    )


def _told(task: Task, span: Any) -> Task:
    """Tell a task where in a trace it is; nothing where nobody traces."""
    place = None if span is None else span.get_span_context()
    if place is None or not place.is_valid:
        return task
    state = place.trace_state.to_header()
    trace = Trace(
        traceparent=f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}",
        tracestate=state if len(state) <= TRACESTATE_LIMIT else "",
    )
    options = task.options.model_copy(update={"trace": trace})
    return task.model_copy(update={"options": options})
