"""A terminal that a program runs on and that a test looks at: tmux, with a server of its own."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.parts.need import need

#: Runs a command, notes its exit status in a file, and stays. tmux's own word of it (3.3a) is lost
#: where the program's end and its last output come together; a shell's is lost with Ctrl-C.
_RUN: Final = """
import pathlib, signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *_: None)
status = subprocess.call(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(f"{status}\\n")
while True:
    signal.pause()
"""


class Tmux:
    """A terminal of 80 columns and 24 rows, unless a test says otherwise."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str],
        columns: int = 80,
        rows: int = 24,
    ) -> None:
        """Start the command on it; skip the test where tmux is missing."""
        found = shutil.which("tmux")
        need(found is not None, "tmux is not installed; run: apt-get install tmux")
        self._tmux = [str(found), "-u", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        # It says itself how large it is.
        env = {name: value for name, value in env.items() if name not in {"COLUMNS", "LINES"}}
        self._env = {**env, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        self._status = folder / "status"
        size = ("-x", str(columns), "-y", str(rows))
        run = [sys.executable, "-c", _RUN, str(self._status), *command]
        self._run("new-session", "-d", *size, f"exec {shlex.join(run)}")

    @property
    def screen(self) -> str:
        """What stands on it now, without colours and without spaces at the end of a row."""
        return self._run("capture-pane", "-p", "-t", ":")

    @property
    def title(self) -> str:
        """The title that a program has given it."""
        return self._run("display-message", "-p", "-t", ":", "#{pane_title}").strip()

    @property
    def status(self) -> int | None:
        """The exit status of the program; None while it runs."""
        said = self._status.read_text() if self._status.exists() else ""
        return int(said) if said.endswith("\n") else None

    def press(self, key: str) -> None:
        """Press a key, by tmux's name for it."""
        self._run("send-keys", "-t", ":", key)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller."""
        self._run("resize-window", "-t", ":", "-x", str(columns), "-y", str(rows))

    def close(self) -> None:
        """End the terminal, with what runs on it."""
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True, timeout=10)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments],
            env=self._env,
            check=True,
            capture_output=True,
            timeout=10,
            text=True,
        )
        return done.stdout
