"""The workloads: what is asked of each peer, and when it is over."""

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Workload:
    """One kind of work; every peer gets the same."""

    key: str
    title: str
    #: Tasks in all.
    tasks: int
    #: Tasks at once in a worker; 0 is no worker.
    slots: int = 400
    #: Of each stream; 0 are answers that come whole.
    chunks: int = 0
    #: Between two chunks, in seconds.
    gap_s: float = 0.0
    #: Until a whole answer, in seconds.
    delay_s: float = 0.0
    #: Between two tasks that are enqueued, in seconds; 0 is one after the other.
    pace_s: float = 0.0
    #: Connections that listen to everything.
    subscribers: int = 1
    #: Size of the picture in each task, in bytes.
    image_bytes: int = 0
    #: Numbers of streams that are open at once while memory is looked at; they go on until then.
    levels: tuple[int, ...] = ()
    #: How long it may take, in seconds, before it counts as failed.
    limit_s: float = 120.0

    @property
    def streams(self) -> bool:
        """Whether answers come in chunks."""
        return self.chunks > 0 or bool(self.levels)

    @property
    def waits(self) -> bool:
        """Whether the upstream takes its time, so that slots are what counts."""
        return self.gap_s > 0 or self.delay_s > 0


#: In the order in which one worker has them: the picture last, since its memory stays.
WORKLOADS: Final = (
    Workload("a", "800 streams × 100 chunks at 25/s, 400 at once", 800, chunks=100, gap_s=0.04),
    Workload("b", "600 streams × 200 chunks without pause", 600, chunks=200),
    Workload("c", "5,000 short calls", 5000),
    Workload("paced", "100 streams × 100 chunks at 25/s", 100, chunks=100, gap_s=0.04, pace_s=0.02),
    Workload("idle", "150 calls, 40 ms apart", 150, pace_s=0.04),
    Workload("g", "one stream at 100/s, 50 subscribers", 1, chunks=400, gap_s=0.01, subscribers=50),
    Workload("f", "one picture of 20 MiB", 1, image_bytes=20 * 1024 * 1024),
    Workload("slots", "6,400 calls of 1 s on 320 slots", 6400, slots=320, delay_s=1.0),
    Workload(
        "d", "2,000 streams open at once", 2000, slots=2000, gap_s=5.0, levels=(500, 1000, 2000)
    ),
    Workload("e", "5,000 tasks enqueued", 5000, slots=0),
)


def scaled(workload: Workload, scale: float, cap: int | None) -> Workload:
    """Make it smaller, and fit for a peer that has at most ``cap`` slots: as many rounds of them.

    A stream or a call of a scaled workload is as long as ever; there are fewer of them.
    """
    tasks = max(1, round(workload.tasks * scale))
    levels = tuple(max(1, round(level * scale)) for level in workload.levels)
    if cap is not None and 0 < cap < workload.slots:
        if workload.waits:
            tasks = min(tasks, max(1, workload.tasks * cap // workload.slots))
        workload = replace(workload, slots=cap)
    return replace(workload, tasks=tasks, levels=levels)
