"""A real program that a test runs beside itself."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.parts.wait import until
from tests.parts.web import get

#: The repository, from which programs of ours are run.
ROOT: Final = Path(__file__).resolve().parents[2]


class Program:
    """A running program. What it says, on both streams, goes to the file ``log``."""

    def __init__(
        self, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        """Start it in the log's folder, with our environment or with ``env`` instead."""
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything said so far."""
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, url: str, *, within: float = 60.0) -> None:
        """Wait until this URL of the program answers with 200."""

        def answered() -> bool:
            assert self.running, f"{self.name} ended at its start"
            with contextlib.suppress(OSError):
                return get(url)[0] == 200
            return False

        try:
            until(answered, f"{self.name} answers at {url}", within=within)
        except AssertionError as error:
            error.add_note(f"it said:\n{self.output}")
            raise

    def terminate(self) -> None:
        """Ask it to end, hanging or not, and do not wait."""
        if self.running:
            self.resume()
            self._process.terminate()

    def wait(self, *, within: float = 60.0) -> int:
        """Wait until it has ended; return its exit status, negative for a signal."""
        return self._process.wait(within)

    def kill(self) -> None:
        """End it as the kernel would for want of memory, with all that it started."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def pause(self) -> None:
        """Let it hang (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, *, within: float = 60.0) -> int:
        """End it as an operator would, and return its exit status; kill it where it stays."""
        self.terminate()
        try:
            return self.wait(within=within)
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"{self.name} did not end within {within:g} s of SIGTERM; it said:\n"
            raise AssertionError(message + self.output) from None


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would configure a program of ours, and what would proxy its calls."""
    ours = ("ROUTER_WORKER_", "YOUROUTER_", "REDIS_", "CELERY_", "LLMOCK_", "AIMOCK_", "OTEL_")
    others = ("PORT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(ours) and name.upper() not in others
    }
