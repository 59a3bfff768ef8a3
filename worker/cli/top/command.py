"""``top``: look again and again, until somebody has seen enough."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from api_contracts.client.connection import Address
from api_contracts.client.servers import Server
from api_contracts.errors import StoreUnavailable
from worker.cli import parameters
from worker.cli.failures import Command, words
from worker.cli.terminal import Screen
from worker.cli.top.model import Overview, overview
from worker.cli.top.screen import Around, frame
from worker.store.view import View

if sys.platform != "win32":
    import termios
    import tty

#: Shortest time between two frames, in seconds: a frame costs Redis some ms.
SHORTEST_S: Final = 0.2
#: Keys that end it.
_LEAVE: Final = b"qQ"
#: Most keys that are read at once; a paste has more, and all of it is looked through.
_KEYS: Final = 1024
#: Signals that end it as they end any program, but with the terminal as it was.
_SIGNALS: Final = ("SIGTERM", "SIGHUP")
#: Exit status of a program that a signal ended: this and the signal's number.
_BY_SIGNAL: Final = 128


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Write one frame, with all its rows, and end.")
@click.option(
    "--interval",
    "interval_s",
    type=parameters.Seconds(min=SHORTEST_S),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two frames.",
)
@parameters.as_json
def top(*, once: bool, interval_s: float, as_json: bool) -> None:
    """Watch queues, workers, running streams, retries and failures, until q or Ctrl-C.

    It only reads. No prompt and no answer is shown; what the router said of a failure neither,
    since that may quote one (dead show ID has it).
    """
    if once:
        asyncio.run(_once(as_json=as_json))
    elif as_json:
        message = "--json goes with --once"
        raise click.UsageError(message)
    elif not _is_terminal(console := _console()):
        message = "standard output is no terminal that can be drawn on; use --once"
        raise click.UsageError(message)
    elif status := asyncio.run(_watch(console, interval_s)):
        raise SystemExit(status)


async def _once(*, as_json: bool) -> None:
    """Write one frame; StoreUnavailable where there is none to be had."""
    async with _viewing() as (view, place):
        seen = overview(await view.read())
    screen = Screen()
    if as_json:
        screen.line(json.dumps(asdict(seen), allow_nan=False))
        return
    console = _console()
    console.print(frame(seen, Around(place), console.width, height=None))


async def _watch(console: Console, interval_s: float) -> int:
    """Draw frame after frame until a key or a signal ends it; return the exit status."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[int] = loop.create_future()

    def end(status: int) -> None:
        if not over.done():
            over.set_result(status)

    async with _viewing() as (view, place):
        around = Around(place, f", every {interval_s:g} s, q ends it")
        with (
            Live(console=console, screen=True, auto_refresh=False) as live,
            _heard(lambda: end(0)),
            _signals(end),
        ):
            frames = asyncio.ensure_future(_frames(live, view, around, interval_s))
            try:
                await asyncio.wait({over, frames}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                frames.cancel()
                await asyncio.wait({frames})
        # They go on until they are cancelled, or break.
        return over.result() if over.done() else frames.result()


async def _frames(live: Live, view: View, around: Around, interval_s: float) -> int:
    """Draw what is read. While nothing can be, the last frame stays, and above it why."""
    seen: Overview | None = None
    _draw(live, seen, Around(around.place, around.hint, "asking Redis"))
    while True:
        trouble = ""
        try:
            seen = overview(await view.read())
        except StoreUnavailable as error:
            trouble = words(error)
        _draw(live, seen, Around(around.place, around.hint, trouble))
        await asyncio.sleep(interval_s)


def _draw(live: Live, seen: Overview | None, around: Around) -> None:
    width, height = live.console.size
    live.update(frame(seen, around, width, height), refresh=True)


@asynccontextmanager
async def _viewing() -> AsyncIterator[tuple[View, str]]:
    """Give a view of the Redis that the environment names, and where that is, without secrets."""
    try:
        address = Address.of(None, None, None)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    view = View(address)
    try:
        yield view, str(Server.parse(address.url))
    finally:
        await view.close()


def _console() -> Console:
    """Make a console that takes no text for markup, and no character for more than it is."""
    Screen()  # from here on, what the terminal's encoding lacks is replaced
    return Console(markup=False, emoji=False, highlight=False)


def _is_terminal(console: Console) -> bool:
    return sys.stdout.isatty() and not console.is_dumb_terminal


@contextmanager
def _heard(leave: Callable[[], None]) -> Iterator[None]:
    """Listen for the key that ends it inside the block, where there is a keyboard."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)

    def listen() -> None:
        pressed = b""
        with suppress(OSError):  # the terminal has gone
            pressed = os.read(keyboard, _KEYS)
        if not pressed or any(key in _LEAVE for key in pressed):
            leave()

    # Keys come one by one, and are not echoed; Ctrl-C stays a signal.
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, listen)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _signals(end: Callable[[int], None]) -> Iterator[None]:
    """Let a signal end it inside the block."""
    loop = asyncio.get_running_loop()
    numbers = [signal.Signals[name] for name in _SIGNALS if sys.platform != "win32"]
    for number in numbers:
        loop.add_signal_handler(number, end, _BY_SIGNAL + number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
