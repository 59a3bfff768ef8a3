"""What Linux knows of a process and all that it started: CPU time, memory, threads."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_KIB: Final = 1024


@dataclass(frozen=True)
class Stat:
    """One line of ``/proc/PID/stat``."""

    pid: int
    parent: int
    #: CPU time of the process and of its children that have ended and were waited for, in ticks.
    ticks: int
    threads: int

    @classmethod
    def parse(cls, line: str) -> "Stat":
        """Read the line; the name in its second field may hold spaces and brackets."""
        pid, _, rest = line.partition(" (")
        fields = rest.rpartition(") ")[2].split()
        # The first of these is field 3 of proc(5): utime is 14, cstime 17, num_threads 20.
        return cls(int(pid), int(fields[1]), sum(map(int, fields[11:15])), int(fields[17]))


def family(root: int, stats: Iterable[Stat]) -> list[Stat]:
    """Pick a process and its descendants."""
    by_parent: dict[int, list[Stat]] = {}
    found = []
    for stat in stats:
        by_parent.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            found.append(stat)
    for stat in found:
        found += by_parent.get(stat.pid, [])
    return found


def kib(text: str) -> Mapping[str, int]:
    """Read the lines `Name:  123 kB` of a file of /proc."""
    pairs = (line.partition(":") for line in text.splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) for name, _, value in pairs}


@dataclass(frozen=True)
class Use:
    """What a process and its descendants use now."""

    cpu_s: float
    #: Resident memory; pages that they share count once.
    resident_mib: float
    #: The sum of the most that each has had resident, in MiB.
    peak_mib: float
    threads: int


def cpu_s(root: int) -> float:
    """Return the CPU time of a process and its descendants, in seconds to 10 ms."""
    return sum(stat.ticks for stat in _family(root)) / _TICKS


def use(root: int) -> Use:
    """Look at a process and its descendants."""
    stats = _family(root)
    resident = peak = 0
    for stat in stats:
        with suppress(OSError):  # it has ended meanwhile
            resident += kib((_PROC / str(stat.pid) / "smaps_rollup").read_text())["Pss"]
            peak += kib((_PROC / str(stat.pid) / "status").read_text())["VmHWM"]
    return Use(
        sum(stat.ticks for stat in stats) / _TICKS,
        resident / _KIB,
        peak / _KIB,
        sum(stat.threads for stat in stats),
    )


def _family(root: int) -> list[Stat]:
    stats = []
    for place in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError):
            stats.append(Stat.parse(place.read_text()))
    return family(root, stats)
