"""``simulator``: a router on this machine that says what nobody has to pay for."""

from __future__ import annotations

import click

from worker.cli.exits import Exit, Stopped
from worker.simulator.server import run
from worker.simulator.steps import Pace


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8089,
    show_default=True,
    help="Port; 0 takes any free one.",
)
@click.option(
    "--gap-ms",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Pause between two chunks.",
)
def simulator(*, host: str, port: int, gap_ms: int) -> None:
    """Run a router to try things on.

    It says on / what it can do. Let a worker use it with ROUTER_WORKER_BASE_URL.
    """
    try:
        run(host, port, Pace(gap_s=gap_ms / 1000))
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}; try another --port"
        raise Stopped(message, Exit.FAILED) from None
