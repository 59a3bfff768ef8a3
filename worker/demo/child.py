"""A program of ours that runs beside the demonstration, and never outlives it.

1. It starts with a pipe as its standard input, and in a session of its own: a Ctrl-C at the
   terminal is the demonstration's to handle, which ends its parts in order.
2. :func:`leash`, its first call, watches that pipe in a thread. The pipe ends with its owner, even
   where that is killed; then the program ends at once.
3. :meth:`Child.stop` asks with SIGTERM, waits, and lets go of the pipe.

What it says, on both streams, goes to a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

#: Seconds for a part to be ready: it takes about 1 s, on a busy machine several.
START_S: Final = 30.0
#: Seconds for a part to end by itself, before it is ended.
STOP_S: Final = 5.0
#: Seconds between two looks at a part that is starting.
_POLL_S: Final = 0.02
#: Lines of a log that an error quotes.
_LOG_LINES: Final = 15


class PartFailed(Exception):
    """A part of the demonstration did not start or did not stay; the message says what it said."""


class Child:
    """A running program."""

    def __init__(
        self, name: str, entry: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]
    ) -> None:
        """Start it. ``entry`` is Python: an import and a call."""
        self.name = name
        self._log = log
        code = f"from worker.demo.child import leash; leash(); {entry}"
        with log.open("ab") as said:
            self._process = subprocess.Popen(  # nosec B603 # noqa: S603 - our own, without a shell
                [sys.executable, "-P", "-c", code, *arguments],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Everything it has said."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Do nothing while it runs; PartFailed when it has ended."""
        status = self._process.poll()
        if status is not None:
            text = f"{self.name} ended by itself (exit status {status})"
            raise PartFailed(self._with_log(text))

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready`` says so; PartFailed where it ends or takes over :data:`START_S`."""
        deadline = time.monotonic() + START_S
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                text = f"{self.name} was not ready within {START_S:g} s"
                raise PartFailed(self._with_log(text))
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it, within :data:`STOP_S` or at once, and wait until it has."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def last_lines(self) -> str:
        """Return the end of what it said."""
        return "\n".join(self.output.splitlines()[-_LOG_LINES:])

    def _with_log(self, text: str) -> str:
        said = self.last_lines()
        return f"{text}; its log ends:\n{said}" if said else f"{text} and said nothing"


def leash() -> None:
    """Let this process end when its standard input does."""
    threading.Thread(target=_end_after_input, name="leash", daemon=True).start()


def _end_after_input() -> None:
    while os.read(0, 1024):
        continue
    os._exit(1)
