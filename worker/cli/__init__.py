"""The command line: ``router-worker``."""

from __future__ import annotations

import click

from worker.bootstrap import WorkerProcess
from worker.environment import load


@click.group()
def main() -> None:
    """Run and use router-worker."""


@main.command()
def run() -> None:
    """Run a worker until SIGTERM."""
    raise SystemExit(WorkerProcess(load()).run())
