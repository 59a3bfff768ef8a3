"""A collector of traces, as OTLP over HTTP knows it: keeps what is exported, span by span."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.parts.wait import until

#: Where traces go under a collector's address (OTLP specification 1.x, "OTLP/HTTP Request").
_PATH: Final = "/v1/traces"
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_ERROR: Final = 2


@dataclass(frozen=True)
class Exported:
    """A span as it came, ids in hexadecimal."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    #: Empty for the first span of a trace.
    parent_id: str
    #: Trace and span of each link.
    links: tuple[tuple[str, str], ...]
    state: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    failed: bool
    #: Words of the status, and number of events: where an exception would be quoted.
    words: str
    events: int
    #: In seconds of unix time.
    began: float
    ended: float

    @property
    def place(self) -> str:
        """How the `traceparent` of whoever is called inside it begins: all but its flags."""
        return f"00-{self.trace_id}-{self.span_id}-"


class Collector:
    """A collector on a port of its own."""

    def __init__(self) -> None:
        """Open it."""
        self._lock = threading.Lock()
        self.reset()
        self._answers = threading.Event()
        self._answers.set()
        self._server = _Server(self)
        #: What OTEL_EXPORTER_OTLP_ENDPOINT says.
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a program that exports to it, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    @property
    def spans(self) -> list[Exported]:
        """The spans so far, in the order in which they ended."""
        with self._lock:
            return sorted(self._spans, key=lambda span: span.ended)

    @property
    def everything(self) -> bytes:
        """Everything that came, as it came."""
        with self._lock:
            return b"".join(self._bodies)

    @property
    def requests(self) -> int:
        """How often somebody came."""
        with self._lock:
            return len(self._bodies)

    def wait_for(self, count: int, *, within: float = 10.0) -> list[Exported]:
        """Wait for so many spans; return all that there are then."""
        try:
            until(lambda: len(self.spans) >= count, f"{count} spans", within=within)
        except AssertionError as error:
            error.add_note(f"there are {[span.name for span in self.spans]}")
            raise
        return self.spans

    def reset(self) -> None:
        """Forget what came."""
        with self._lock:
            self._spans: list[Exported] = []
            self._bodies: list[bytes] = []

    def hang(self) -> None:
        """Answer nobody any more."""
        self._answers.clear()

    def close(self) -> None:
        """Close the port."""
        self._answers.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, body: bytes) -> int:
        """Keep an export; return the status of the answer."""
        with self._lock:
            self._bodies.append(body)
            if path != _PATH:
                return 404
            self._spans += _read(body)
        self._answers.wait()
        return 200


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.collector.take(self.path, body))
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - inherited name
        """Say nothing."""


def _read(body: bytes) -> list[Exported]:
    request: Any = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return [
        _exported(span, _values(group.resource.attributes))
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _exported(span: Any, resource: Mapping[str, Any]) -> Exported:
    return Exported(
        name=span.name,
        kind=_KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        state=span.trace_state,
        attributes=_values(span.attributes),
        resource=resource,
        failed=span.status.code == _ERROR,
        words=span.status.message,
        events=len(span.events),
        began=span.start_time_unix_nano / 1e9,
        ended=span.end_time_unix_nano / 1e9,
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
