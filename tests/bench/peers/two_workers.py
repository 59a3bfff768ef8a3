"""Two worker processes that share their slots, as one program: ``python -m …two_workers``."""

import os
import sys

from tests.parts.web import free_port

_RUN = (sys.executable, "-c", "from worker.cli import main; main()", "run")

if __name__ == "__main__":
    slots = int(os.environ["ROUTER_WORKER_CONCURRENCY"]) // 2
    shared = {**os.environ, "ROUTER_WORKER_CONCURRENCY": str(slots)}
    # The other is its child, and both are in one process group.
    other = os.fork()
    os.execve(_RUN[0], _RUN, shared if other else {**shared, "PORT": str(free_port())})  # noqa: S606 - there is no shell in it
