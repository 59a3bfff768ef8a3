"""The console script `router-worker`, where nothing needs to be installed."""

import os
import sys
from pathlib import Path

from tests.parts.program import ROOT, without_settings

_SCRIPT = f"""#!{sys.executable}
from worker.cli import main
main()
"""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return variables with which a shell finds `router-worker`, and with these settings."""
    script = folder / "bin" / "router-worker"
    script.parent.mkdir()
    script.write_text(_SCRIPT)
    script.chmod(0o755)
    path = f"{script.parent}:{os.environ['PATH']}:/usr/sbin"
    return without_settings(os.environ) | {"PATH": path, "PYTHONPATH": str(ROOT)} | settings
