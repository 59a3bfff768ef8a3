"""`make audit`: asks PyPI whether anything that we install has a hole that is known.

pip-audit does it, for each version in `requirements.lock`. A machine that reaches PyPI not at all,
or by a mirror that knows of no holes, has nobody to ask: it says so, and is no failure. (pip-audit
itself takes a version that PyPI does not know for one without holes.)
"""

import subprocess
import sys
import urllib.request
from typing import Final

from tests.parts.program import ROOT

#: Where pip-audit asks; this page is a small one.
ADVISORIES: Final = "https://pypi.org/pypi/sampleproject/4.0.0/json"
#: What stands in it, even if nothing is known.
KNOWN: Final = b'"vulnerabilities":'
#: Longest wait for it, in seconds: it answers within one.
ANSWER_S: Final = 10.0
COMMAND: Final = (
    *(sys.executable, "-m", "pip_audit", "--progress-spinner", "off"),
    # The lock is whole: nothing is to be resolved or installed.
    *("--disable-pip", "--require-hashes", "--requirement", str(ROOT / "requirements.lock")),
)


def silence() -> str | None:
    """Say why PyPI cannot be asked; None where it can."""
    try:
        with urllib.request.urlopen(ADVISORIES, timeout=ANSWER_S) as page:
            return None if KNOWN in page.read() else "its answer tells of no holes"
    except OSError as error:
        return str(error)


def main() -> int:
    """Ask; return the exit status."""
    why = silence()
    if why is not None:
        told = f"pip-audit: SKIPPED, nothing was checked: pypi.org cannot be asked ({why})"
        sys.stdout.write(f"{told}\n")
        return 0
    return subprocess.run(COMMAND, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
