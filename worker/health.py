"""Three pages over HTTP, in threads of their own: ``/metrics``, ``/healthz`` and ``/readyz``.

1. ``/healthz``: should this process be restarted? Only what a restart mends belongs here.
2. ``/readyz``: can it do its work now? Redis away, or draining: 503, and nobody restarts it.
3. ``/metrics``: what the caller's function writes.

They answer while the event loop is stuck: that is when they are needed. A check is a function that
gives None, or what is wrong in plain words without a secret; it must bound its own wait. One
connection is one request, and lives :data:`CLIENT_S` at most, however slowly its client sends.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

Check = Callable[[], str | None]

#: Longest time for the event loop to answer, in seconds: it does within milliseconds under full
#: load. A probe's own time-out (Kubernetes: 1 s by default) must be longer than this.
LOOP_S: Final = 2.0
#: Longest life of a connection, without the time that a check takes, in seconds.
CLIENT_S: Final = 5.0
#: How often the server looks whether it is to close, in seconds: the process cannot end before.
CLOSE_S: Final = 0.1
#: Most connections at once; a scraper and a kubelet need two. More are closed unanswered.
CONNECTIONS: Final = 32
#: Longest head of a request, in bytes; Prometheus sends about 400.
HEAD_LIMIT: Final = 8192

_HEAD_END: Final = b"\r\n\r\n"

_LOG = logging.getLogger(__name__)


class CannotListen(Exception):
    """The port cannot be opened; the message says why and which variable to change."""

    @classmethod
    def because(cls, error: OSError, host: str, port: int) -> CannotListen:
        """Say it in words that an operator can act on."""
        place = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            return cls(f"{place} is taken by another program; set PORT to a free port, or to 0")
        if error.errno == errno.EACCES:
            return cls(f"{place} may not be opened by this user; set PORT to 1024 or more")
        return cls(f"{place} cannot be opened ({error}); look at ROUTER_WORKER_HOST and PORT")


def loop_answers(loop: asyncio.AbstractEventLoop, within_s: float = LOOP_S) -> Check:
    """Make a check that an event loop in another thread still takes its turns."""

    def check() -> str | None:
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:
            return "the event loop is closed"
        if answered.wait(within_s):
            return None
        return f"the event loop did not answer within {within_s:g} s"

    return check


class HealthServer:
    """Serves the three pages until it is closed."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        metrics: Callable[[], tuple[str, bytes]],
        alive: Mapping[str, Check],
        ready: Mapping[str, Check],
    ) -> None:
        """Open the port, host and number, and serve; CannotListen where that fails.

        ``metrics`` gives content type and text. Port 0 lets the system choose; see ``port``.
        """
        pages: dict[str, Page] = {
            "/metrics": lambda: (HTTPStatus.OK, *metrics()),
            "/healthz": lambda: _report(alive),
            "/readyz": lambda: _report(ready),
        }
        try:
            self._server = _Server(address, pages)
        except OSError as error:
            raise CannotListen.because(error, *address) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(CLOSE_S,), name="health", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is open."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving and close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


#: Status, content type and body.
Answer = tuple[HTTPStatus, str, bytes]
Page = Callable[[], Answer]


def _report(checks: Mapping[str, Check]) -> Answer:
    """Run every check; 200 where all is well, else 503 with what is not."""
    failed = {name: wrong for name, check in checks.items() if (wrong := _run(name, check))}
    status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
    text = json.dumps({"status": "failed" if failed else "ok", "failed": failed})
    return status, "application/json", text.encode() + b"\n"


def _run(name: str, check: Check) -> str | None:
    """Run a check. One that breaks has failed; a page for everybody gives only the error's type."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever breaks in it, the page must answer
        _LOG.exception("the check %s broke", name)
        return f"the check itself broke ({type(error).__name__})"


class _Server(ThreadingHTTPServer):
    """A threading server that bounds its threads, and asks no DNS server for its own name."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self.pages = pages
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's looks its name up in the DNS, which may take half a minute.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread could be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - inherited
        # A client that went away or was too slow: no fault of ours, and no line on stderr.
        _LOG.debug("a health connection broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request from the server's pages."""

    server: _Server
    server_version = "router-worker"
    sys_version = ""
    error_content_type = "text/plain"
    error_message_format = "%(code)d %(message)s\n"

    def setup(self) -> None:
        """Read the head of the request with one time limit for all of it."""
        super().setup()
        end = time.monotonic() + CLIENT_S
        head = b""
        while _HEAD_END not in head and len(head) < HEAD_LIMIT:
            self.connection.settimeout(max(0.001, end - time.monotonic()))
            received = self.connection.recv(HEAD_LIMIT)
            if not received:
                break
            head += received
        self.connection.settimeout(CLIENT_S)
        whole = _HEAD_END in head
        self.rfile = io.BytesIO(head if whole else b"")  # an empty one is closed unanswered

    def do_GET(self) -> None:
        """Answer with a page."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        status, content_type, body = self._page(path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _page(self, path: str) -> Answer:
        page = self.server.pages.get(path)
        if page is None:
            text = f"not found; there are {', '.join(self.server.pages)}\n"
            return HTTPStatus.NOT_FOUND, "text/plain", text.encode()
        try:
            return page()
        except Exception:  # noqa: BLE001 - whatever breaks in it, the client must be told
            _LOG.exception("the page %s broke", path)
            text = "this page broke; the worker's log says why\n"
            return HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", text.encode()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - inherited name
        """Log a request where somebody looks for it; a probe comes every few seconds."""
        _LOG.debug(format, *arguments)
