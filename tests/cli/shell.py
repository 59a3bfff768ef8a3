"""A user at a shell: runs `router-worker`, and sees both streams and the exit status."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import click
from click.testing import CliRunner

from api_contracts.client import Client
from tests.parts.program import ROOT, without_settings
from worker.cli import main

#: The id of no task; a name of a test may have it.
UNKNOWN: Final = "7d1f0c5e-3a2b-4c8d-9e6f-0b1a2c3d4e5f"
#: Longest time for a command to end, in seconds: it takes a second to start, and more on a busy
#: machine.
ENDS_S: Final = 60.0
#: What the console script `router-worker` does; it needs no installation.
COMMAND: Final = (
    sys.executable, "-W", "error", "-c",
    "from worker.cli import main; main(prog_name='router-worker')",
)  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Each line of standard output, as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


class Running:
    """A command that runs. What it says on each stream goes to a file, which is no terminal."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> None:
        """Start it."""
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> Ran:
        """Wait until it has ended."""
        return Ran(self._process.wait(ENDS_S), self.out, self.err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self._process.kill()
            self._process.wait()


@click.command()
def pressed() -> None:
    """Stand for a command in which somebody presses Ctrl-C.

    Not by the signal: a shell lets what runs in its background ignore it.
    """
    raise KeyboardInterrupt


class Shell:
    """A shell with an environment, in a folder; ``client`` is another program on its Redis."""

    def __init__(self, folder: Path, client: Client, **env: str) -> None:
        """Take these variables beside the machine's."""
        self.folder = folder
        self.client = client
        self.env = {**without_settings(os.environ), "PYTHONPATH": str(ROOT), **env}
        # It would write at once what a program forgets to flush.
        self.env.pop("PYTHONUNBUFFERED", None)

    def run(self, *arguments: str, stdin: str | bytes = "", **env: str) -> Ran:
        """Run a command to its end, with these variables as well."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**self.env, **env},
            cwd=self.folder,
            timeout=ENDS_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def run_here(self, *arguments: str, stdin: str | bytes = "", **env: str) -> Ran:
        """Run a command inside this process: the same, but for signals, and much quicker."""
        ours = {**self.env, **env}
        absent = dict.fromkeys(set(os.environ) - set(ours))
        with contextlib.chdir(self.folder):
            done = CliRunner(env={**absent, **ours}).invoke(main, arguments, input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    def python(self, code: str) -> str:
        """Run some Python to its end; return what it prints."""
        command = [sys.executable, "-W", "error", "-c", code]
        return subprocess.run(
            command, capture_output=True, env=self.env, timeout=ENDS_S, check=True
        ).stdout.decode()

    def start(self, *arguments: str) -> Running:
        """Start a command and do not wait."""
        return Running(arguments, self.folder, self.env)

    def run_piped(self, *arguments: str, until: bytes, then: Callable[[], None]) -> Ran:
        """Run a command whose reader goes away once it has seen these bytes; ``then`` comes next.

        Whatever the command has to write behind them must wait for that.
        """
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            seen = b""
            while until not in seen:
                seen += os.read(process.stdout.fileno(), 1)
            process.stdout.close()
            then()
            err = process.stderr.read().decode()
        return Ran(process.returncode, seen.decode(), err)

    def run_on_terminal(
        self,
        *arguments: str,
        until: bytes = b"",
        then: Callable[[], None] = lambda: None,
    ) -> tuple[int, bytes]:
        """Run a command on a terminal of its own: its status, and all that the terminal got.

        ``then`` is called whenever something came and these bytes have been seen.
        """
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env=self.env,
            start_new_session=True,
        )
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 4096):
                seen += data
                if until in seen:
                    then()
        except OSError:  # how Linux says that the other end was closed
            pass
        finally:
            os.close(ours)
        return process.wait(ENDS_S), seen.replace(b"\r\n", b"\n")

    def file(self, name: str, content: Any) -> str:
        """Write a file, as JSON unless it is text or bytes; return its name."""
        data = content if isinstance(content, str | bytes) else json.dumps(content)
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return name
