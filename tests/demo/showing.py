"""`router-worker demo` as a program of its own, and every process that it starts."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from tests.parts.program import ROOT, Program, without_settings
from tests.parts.wait import until

_COMMAND: Final = (
    sys.executable, "-W", "error", "-c",
    "from worker.cli import main; main(prog_name='router-worker')", "demo",
)  # fmt: skip


class Showing:
    """A demonstration that runs, piped; its temporary folder is made in one of the test's own."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        """Start it."""
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        environment = without_settings(os.environ) | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            **settings,
        }
        self.program = Program([*_COMMAND, *options], folder / "demo.log", env=environment)

    def wait(self, *, within: float = 110.0) -> int:
        """Wait for its end; return its exit status."""
        return self.program.wait(within=within)

    @property
    def output(self) -> str:
        return self.program.output

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each line of its output, as JSON."""
        return [json.loads(line) for line in self.output.splitlines()]

    def wait_for(self, text: str) -> None:
        """Wait until it has said this."""
        until(lambda: text in self.output, f"it says {text!r}", within=60)

    def parts(self) -> dict[int, str]:
        """Return the processes under it now: what each was started with, by its id."""
        return {
            pid: command for pid, command in _processes(self.program.pid) if pid != self.program.pid
        }


def _processes(root: int) -> list[tuple[int, str]]:
    """Return a process and all below it; those that have ended and were not yet buried, not."""
    listed = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    running: dict[int, str] = {}
    children = defaultdict[int, list[int]](list)
    for line in listed.splitlines():
        pid, parent, state, *command = line.split(None, 3)
        children[int(parent)].append(int(pid))
        if not state.startswith("Z"):
            running[int(pid)] = "".join(command)
    # A child's id may be the smaller one: ids begin anew once they are used up.
    family = [root]
    for one in family:
        family += children[one]
    return [(one, running[one]) for one in family if one in running]


def still_running(pids: set[int]) -> set[int]:
    """Return those of the processes that have not ended."""
    return {pid for pid in pids if any(found == pid for found, _ in _processes(pid))}
