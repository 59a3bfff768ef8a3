"""``run``: the worker."""

from __future__ import annotations

import click

from worker.bootstrap import WorkerProcess
from worker.cli.exits import Exit, Stopped
from worker.environment import InvalidSettings, load
from worker.health import CannotListen


@click.command()
def run() -> None:
    """Run a worker until SIGTERM.

    Settings are environment variables; the README lists them, doctor checks them.
    """
    try:
        settings = load()
    except InvalidSettings as error:
        raise Stopped(str(error), Exit.USAGE) from None
    try:
        status = WorkerProcess(settings).run()
    except CannotListen as error:
        raise Stopped(str(error), Exit.FAILED) from None
    raise SystemExit(status)
