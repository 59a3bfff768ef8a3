"""Who takes part, and how each is started."""

import sys
from dataclasses import dataclass
from typing import Final, Literal

#: What shows that a task is over: it was published, the upstream has answered, the queue is empty.
Over = Literal["published", "answered", "drained"]

_CELERY: Final = (
    *("-m", "celery", "-A", "tests.bench.peers.celery_app", "worker"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)
_ALL: Final = ("a", "b", "c", "paced", "idle", "g", "f", "slots", "d", "e")


@dataclass(frozen=True)
class Peer:
    """A worker, and its producer."""

    name: str
    title: str
    #: Starts its worker, behind the interpreter; `{slots}` is how many tasks at once.
    command: tuple[str, ...]
    #: Opens its queue: module and function.
    queue: str
    workloads: tuple[str, ...] = _ALL
    #: Channels that it publishes on.
    pattern: str = "bench:*"
    over: Over = "published"
    #: Most slots it can have.
    cap: int | None = None
    #: Whether the queue takes many tasks at once: `each` workload uses that, or only `e`.
    batch: Literal["each", "e"] | None = None
    #: Packages without which it cannot run.
    needs: tuple[str, ...] = ()
    #: What it is compared as.
    kind: Literal["own", "celery", "async", "other", "limit", "part"] = "other"

    @property
    def repeats(self) -> bool:
        """Whether each repetition runs all of its workloads, and not only the streams."""
        return self.kind in ("own", "limit", "part")

    def line(self, slots: int) -> list[str]:
        """Return the command line."""
        return [sys.executable, *(part.format(slots=slots) for part in self.command)]


def _celery(pool: str, cap: int | None = None) -> Peer:
    return Peer(
        f"celery-{pool}",
        f"Celery, {pool}",
        (*_CELERY, "-P", pool, "-c", "{slots}"),
        "tests.bench.peers.celery_app:open_queue",
        workloads=tuple(key for key in _ALL if cap is None or key != "d"),
        cap=cap,
        kind="celery",
        needs=("gevent",) if pool == "gevent" else (),
    )


ROSTER: Final = (
    Peer(
        "router-worker",
        "router-worker",
        ("-c", "from worker.cli import main; main()", "run"),
        "tests.bench.peers.router_worker:open_queue",
        pattern="rw:{*}:live",
        batch="e",
        kind="own",
    ),
    _celery("prefork", cap=8),
    _celery("threads"),
    _celery("gevent"),
    Peer(
        "arq",
        "arq",
        ("-m", "arq", "tests.bench.peers.arq_app.WorkerSettings"),
        "tests.bench.peers.arq_app:open_queue",
        needs=("arq",),
        kind="async",
    ),
    Peer(
        "taskiq",
        "taskiq",
        (
            *("-m", "taskiq", "worker", "tests.bench.peers.taskiq_app:broker"),
            *("--workers", "1", "--max-async-tasks", "{slots}"),
        ),
        "tests.bench.peers.taskiq_app:open_queue",
        needs=("taskiq", "taskiq_redis"),
        kind="async",
    ),
    Peer(
        "streaq",
        "streaQ",
        ("-m", "streaq", "run", "tests.bench.peers.streaq_app:worker"),
        "tests.bench.peers.streaq_app:open_queue",
        needs=("streaq",),
        batch="e",
        kind="async",
    ),
    Peer(
        "saq",
        "SAQ",
        ("-m", "saq", "tests.bench.peers.saq_app.settings"),
        "tests.bench.peers.saq_app:open_queue",
        needs=("saq",),
        kind="async",
    ),
    Peer(
        "dramatiq",
        "Dramatiq",
        (
            *("-m", "dramatiq", "tests.bench.peers.dramatiq_app"),
            *("--processes", "1", "--threads", "{slots}"),
        ),
        "tests.bench.peers.dramatiq_app:open_queue",
        needs=("dramatiq",),
    ),
    Peer(
        "limit",
        "bare limit",
        ("-m", "tests.bench.peers.limit"),
        "tests.bench.peers.limit:open_queue",
        workloads=("a", "b", "c", "paced", "g", "f", "slots", "d"),
        batch="each",
        kind="limit",
    ),
    Peer(
        "celery-nothing",
        "Celery task that does nothing",
        (*_CELERY, "-P", "threads", "-c", "{slots}"),
        "tests.bench.peers.celery_app:open_nothing",
        workloads=("c",),
        over="drained",
        kind="part",
    ),
    Peer(
        "httpx-call",
        "bare httpx call",
        ("-m", "tests.bench.peers.bare_httpx"),
        "tests.bench.peers.limit:open_queue",
        workloads=("c",),
        over="answered",
        batch="each",
        kind="part",
    ),
)
