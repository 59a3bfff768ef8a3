"""The harness's own processes, which answer lines with lines."""

import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from tests.parts.program import ROOT

#: Seconds for a process to import what it needs and say that it is ready.
START_S: Final = 30.0
#: Sockets: 4,000 streams in a worker, and as many in the upstream.
_FILES: Final = 16_384


def allow_sockets() -> None:
    """Let this process, and the children that it starts, open as many as a run needs."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def say(line: str) -> None:
    """Say a line, as such a process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Silent(RuntimeError):
    """A process of the harness did not answer in time, or has ended."""


class Child:
    """A running module of ours; it ends with its standard input, so with us too."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it."""
        self.module = module
        self._read = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until it says so."""
        said = self.hear(START_S)
        if said != "ready":
            message = f"{self.module} said {said[:80]!r} in place of 'ready'"
            raise Silent(message)

    def ask(self, line: str, within_s: float = START_S) -> Any:
        """Say a line; return what it answers, which is JSON."""
        self.tell(line)
        return json.loads(self.hear(within_s))

    def tell(self, line: str) -> None:
        """Say a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def heard(self) -> bool:
        """Tell whether an answer waits, without waiting for it."""
        return b"\n" in self._read or bool(self._more(0) and b"\n" in self._read)

    def hear(self, within_s: float) -> str:
        """Wait for a line."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._read:
            if not self._more(max(0.0, deadline - time.monotonic())):
                message = f"{self.module} did not answer within {within_s:g} s"
                raise Silent(message)
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def _more(self, within_s: float) -> bool:
        """Read what comes next; tell whether anything came."""
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        if not select.select([out], [], [], within_s)[0]:
            return False
        data = os.read(out, 1 << 20)
        if not data:
            message = f"{self.module} ended with {self._process.wait()}"
            raise Silent(message)
        self._read += data
        return True

    def __enter__(self) -> Self:
        """Return the process, which runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
