"""The way to the router: notes every request byte for byte, and passes it on or answers itself.

aimock's own journal shows a native body in aimock's words, and hides the key; and neither it nor
llmock can dribble, hang, or send what is no HTTP. A worker that calls the gate reaches whichever
router stands behind it, so one worker serves many tests.
"""

import json
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final
from urllib.parse import urlsplit

from tests.parts.web import free_port

#: Most bytes that are moved at once.
_BLOCK: Final = 65_536
#: SO_LINGER with no time: closing sends a reset instead of a farewell.
_RESET: Final = struct.pack("ii", 1, 0)


class Do(Enum):
    """What an answer does besides sending bytes."""

    CUT = "reset the connection"
    HANG = "say nothing more, until the caller goes away"


@dataclass(frozen=True)
class Pause:
    """Send nothing for so many seconds, or until somebody says that it is over."""

    seconds: float
    over: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)


#: What happens to one request, in order; then its connection is closed.
Answer = tuple[bytes | Pause | Do, ...]


@dataclass(frozen=True)
class Request:
    """A request as it came; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    #: Set when its caller has gone away while the answer hung.
    left: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gate:
    """A gate on a port of its own."""

    def __init__(self) -> None:
        """Open it, with nobody behind."""
        self._lock = threading.Lock()
        self._port = free_port()
        #: Base URL for a worker.
        self.url = f"http://127.0.0.1:{self._port}"
        self.reset()
        self._open()

    def reset(self) -> None:
        """Forget requests, answers, and who is behind."""
        with self._lock:
            #: The requests so far, in the order in which they came.
            self.requests: list[Request] = []
            self._answers: list[tuple[bytes, Answer]] = []
            self._behind: str | None = None

    def lead_to(self, url: str) -> None:
        """Pass on to this router what no answer is left for."""
        self._behind = url

    def answer(self, *answers: Answer, to: str = "") -> None:
        """Answer the coming requests, one answer each: those whose body has the text ``to``."""
        with self._lock:
            self._answers += [(to.encode(), answer) for answer in answers]

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Refuse connections inside the block, as a router that is down does."""
        self.close()
        try:
            yield
        finally:
            self._open()

    def close(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def note(self, request: Request) -> tuple[Answer | None, str | None]:
        """Note a request; return its answer, or else who is behind."""
        with self._lock:
            self.requests.append(request)
            for place, (to, answer) in enumerate(self._answers):
                if to in request.body:
                    del self._answers[place]
                    return answer, None
            return None, self._behind

    def _open(self) -> None:
        self._server = _Server(self, self._port)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    # A worker connects for all its tasks at once; what the kernel drops comes again after 1 s.
    request_queue_size = 512
    # A hanging answer ends with its caller; nobody waits for it here.
    block_on_close = False

    def __init__(self, gate: Gate, port: int) -> None:
        self.gate = gate
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: callers that go away in the middle are what many tests are about."""


class _Handler(socketserver.StreamRequestHandler):
    """Takes one request, and does what its answer says."""

    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        request = self._read()
        if request is None:
            return
        answer, behind = self.server.gate.note(request)
        if answer is not None:
            self._play(answer, request)
        elif behind is not None:
            self._pass_on(request, behind)
        else:
            nobody = whole({"error": {"message": "nobody is behind the gate"}}, status=404)
            self._play(nobody, request)

    def _read(self) -> Request | None:
        line = self.rfile.readline().decode("latin-1").split(" ")
        if len(line) < 3:
            return None
        headers = {}
        while (header := self.rfile.readline().decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        return Request(line[0], line[1], headers, body)

    def _play(self, answer: Answer, request: Request) -> None:
        for step in answer:
            if isinstance(step, bytes):
                self.connection.sendall(step)
            elif isinstance(step, Pause):
                step.over.wait(step.seconds)
            elif step is Do.HANG:
                self.connection.recv(1)
                request.left.set()
            else:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Both hold the socket open; the server's own end would say farewell.
                self.rfile.close()
                self.connection.close()
                return

    def _pass_on(self, request: Request, url: str) -> None:
        """Ask the router behind, and hand over what it says as it says it."""
        router = urlsplit(url)
        headers = {**request.headers, "host": router.netloc, "connection": "close"}
        lines = [f"{request.method} {request.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        with socket.create_connection((router.hostname, router.port)) as behind:
            behind.sendall(head + request.body)
            self.connection.sendall(_closing(behind))
            while True:
                ready, _, _ = select.select([behind, self.connection], [], [])
                if self.connection in ready:  # the caller has nothing more to say: it went away
                    return
                data = behind.recv(_BLOCK)
                if not data:
                    return
                self.connection.sendall(data)


def _closing(router: socket.socket) -> bytes:
    """Read the head of an answer; return it as one after which the connection is closed."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = router.recv(_BLOCK)
        if not data:
            return head
        head += data
    lines, _, rest = head.partition(b"\r\n\r\n")
    kept = [line for line in lines.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join((*kept, b"connection: close", b"", rest))


def whole(body: Any, status: int = 200, **headers: str) -> Answer:
    """Make an answer that comes in one piece: JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content_type": "application/json", "content_length": str(len(data)), **headers}
    return (_head(status, told) + data,)


def stream(*steps: bytes | Pause | Do, content_type: str = "text/event-stream") -> Answer:
    """Make an answer whose body comes in pieces, each as an HTTP chunk of its own."""
    head = _head(200, {"content_type": content_type, "transfer_encoding": "chunked"})
    sent = tuple(b"%x\r\n%b\r\n" % (len(s), s) if isinstance(s, bytes) else s for s in steps)
    return (head, *sent, b"0\r\n\r\n")


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1")
