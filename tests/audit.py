"""`make audit`: asks whether anything that we install has a hole that is known.

pip-audit does it, for each version in `requirements.lock`. It takes a version that it is told
nothing of for one without holes. So it is asked first of one whose holes have been known for years.
A machine that reaches nobody who knows them, or a mirror that knows of none, has nobody to ask: it
says so, and is no failure.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.parts.program import ROOT

#: A version whose holes are known: CVE-2014-1402 and more.
WITH_HOLES: Final = "jinja2==2.4.1"
#: Longest wait for all answers of pip-audit, in seconds: it needs ten for the lock.
ANSWERS_S: Final = 120.0
#: Arguments that say whom pip-audit asks; by default, whom it does by itself.
SERVICE: tuple[str, ...] = ()
COMMAND: Final = (
    *(sys.executable, "-m", "pip_audit", "--progress-spinner", "off"),
    # The requirements are whole: nothing is to be resolved or installed.
    "--disable-pip",
)
LOCK: Final = ("--require-hashes", "--requirement", str(ROOT / "requirements.lock"))


def silence() -> str | None:
    """Say why nobody can be asked; None where somebody can."""
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "requirements.txt"
        one.write_text(f"{WITH_HOLES}\n")
        question = ("--no-deps", "--format", "json", "--requirement", str(one))
        done = subprocess.run(
            [*COMMAND, *SERVICE, *question],
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWERS_S,
        )
    try:
        [answer] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return " ".join(done.stderr.split()[-20:])
    return None if answer.get("vulns") else f"nothing is told of {WITH_HOLES}, which has holes"


def main() -> int:
    """Ask; return the exit status."""
    why = silence()
    if why is not None:
        sys.stdout.write(f"pip-audit: SKIPPED, nothing was checked: {why}\n")
        return 0
    return subprocess.run([*COMMAND, *SERVICE, *LOCK], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
