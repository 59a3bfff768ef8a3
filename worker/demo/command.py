"""``router-worker demo``: everything at once, on this machine."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

import click
from rich.console import Console

from api_contracts.errors import RouterWorkerError
from api_contracts.requests import new_id
from worker.demo import scrape
from worker.demo.child import PartFailed
from worker.demo.jsonlines import JsonLines
from worker.demo.play import Row, play, scenes
from worker.demo.screen import Screen
from worker.demo.stage import RouterPlan, Stage, plan_router, staged
from worker.embedded import EmbeddedUnavailable
from worker.telemetry import TASKS

#: Signals that end the demonstration and all of its parts.
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Exit status of a program that a signal ended: this and the signal's number.
_BY_SIGNAL: Final = 128
#: Longest wait until the worker has counted the last ending, in seconds; it takes about 1 ms.
_COUNTED_S: Final = 2.0
#: Seconds between two looks at the parts while they are kept.
_KEEP_S: Final = 0.5


class _Stopped(KeyboardInterrupt):
    """A signal came. Of this kind, since asyncio lets nothing else through from everywhere."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = _BY_SIGNAL + number


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.option("--keep", is_flag=True, help="Leave everything running, and say how to use it.")
@click.option(
    "--local-model",
    is_flag=True,
    help="Let a small real model on this machine answer chats and Claude calls.",
)
def demo(*, as_json: bool, keep: bool, local_model: bool) -> None:
    """See it work: a Redis, a router, a worker, and every example of the router's guide.

    Needs nothing and leaves nothing behind. With YOUROUTER_API_KEY set, the real router answers
    (at ROUTER_WORKER_BASE_URL, if that is set), and is paid for it. Exits with 1 where an example
    did not go as meant.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A model's answer may hold what the terminal's encoding does not.
        sys.stdout.reconfigure(errors="replace")
    try:
        with _ended_by_signals():
            plan = plan_router(os.environ, local_model=local_model)
            raise SystemExit(_show(plan, as_json=as_json, keep=keep))
    except _Stopped as stopped:
        raise SystemExit(stopped.status) from None
    except (PartFailed, EmbeddedUnavailable, RouterWorkerError) as error:
        click.echo(f"the demonstration ended: {error}", err=True)
        raise SystemExit(1) from None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a signal unwind what runs, once: while the parts are ended, others change nothing."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        for ending in _ENDING:
            signal.signal(ending, signal.SIG_IGN)
        raise _Stopped(number)

    before = {ending: signal.signal(ending, stop) for ending in _ENDING}
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def _moved(stage: Stage, before: str, tasks: int) -> list[scrape.Moved]:
    """Read what moved, once all tasks are counted: an ending is published a moment before."""
    patience = time.monotonic() + _COUNTED_S
    while True:
        moved = scrape.moved(before, stage.metrics())
        counted = sum(one.by for one in moved if one.name == TASKS.name)
        if counted >= tasks or time.monotonic() > patience:
            return moved
        time.sleep(_COUNTED_S / 20)


def _show(plan: RouterPlan, *, as_json: bool, keep: bool) -> int:
    """Play every example and tell of it; return the exit status."""
    began = time.monotonic()
    played = scenes(new_id(), simulated=plan.simulated)
    teller = JsonLines() if as_json else Screen(Console(highlight=False), len(played))
    models = sorted({model for scene in played if (model := scene.task.model)})
    with staged(plan, models, teller.note) as stage:
        if not plan.simulated:
            teller.note("two examples are left out: a rate limit and a cut need the simulator")
        before = stage.metrics()
        rows = asyncio.run(play(stage, played, teller))
        teller.summary(rows, _moved(stage, before, len(rows)))
        teller.note(_verdict(rows, time.monotonic() - began))
        status = 0 if all(row.as_meant for row in rows) else 1
        if status:
            click.echo(f"the worker's log ends:\n{stage.worker.last_lines()}", err=True)
        if keep:
            _keep(stage, plan, teller)
        else:
            teller.note("by hand: `router-worker demo --keep` leaves all of this running")
    return status


def _verdict(rows: list[Row], seconds: float) -> str:
    wrong = [row.number for row in rows if not row.as_meant]
    if wrong:
        return f"{len(rows)} tasks in {seconds:.0f} s; not as meant: {', '.join(wrong)}"
    return f"{len(rows)} tasks in {seconds:.0f} s, all as meant"


def _keep(stage: Stage, plan: RouterPlan, teller: JsonLines | Screen) -> None:
    """Say how to use what runs, and wait for a signal; PartFailed where a part ends."""
    teller.commands(_by_hand(stage, plan))
    try:
        while True:
            stage.check()
            time.sleep(_KEEP_S)
    except _Stopped:
        teller.note("ending it all")


def _by_hand(stage: Stage, plan: RouterPlan) -> list[str]:
    """Return what to type in another terminal; never a real key."""
    commands = [
        f"export REDIS_URL={stage.redis.url}",
        f"export ROUTER_WORKER_BASE_URL={stage.base_url}",
        f"export PORT={stage.port}",
        "router-worker chat 'Tell me a joke' --model gpt-4o --stream",
        "curl -s http://127.0.0.1:$PORT/metrics | grep ^router_worker",
    ]
    if plan.simulated:
        commands.append("curl -s $ROUTER_WORKER_BASE_URL/journal")
    return commands
