"""The demonstration as a person sees it: on a terminal, or as plain lines in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.control import Control
from rich.rule import Rule
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from api_contracts.client.text import TextView
from api_contracts.events import Event, Failed, Retrying, Started
from api_contracts.requests import Task
from api_contracts.results import Result
from worker.demo.play import Row, Scene
from worker.demo.scrape import Moved
from worker.demo.tools import ToolCall, question_in
from worker.demo.wrap import Wrap

#: Widest that text is laid out, in cells: longer lines are hard to read.
WIDEST: Final = 100
_INDENT: Final = "  "


class Screen:
    """Tells people. What was shown and became void is struck out where the terminal can."""

    def __init__(self, console: Console, total: int) -> None:
        """Write to a console; ``total`` examples will come."""
        self._console = console
        self._total = total
        self._width = min(console.width, WIDEST)
        # FORCE_COLOR makes rich take a pipe for a terminal; there is nothing to go back to in one.
        self._can_strike = console.file.isatty() and not console.is_dumb_terminal
        self._begin_text()

    def note(self, text: str) -> None:
        """Say something between the examples."""
        self._line(text, "cyan")

    def commands(self, commands: Sequence[str]) -> None:
        """Say how to use what runs; each command can be copied whole."""
        self.note("it all keeps running; in another terminal:")
        self._console.print()
        for command in commands:
            self._out(f"{_INDENT}{command}\n")
        self._console.print()
        self.note("Ctrl-C here ends it")

    def begin(self, scene: Scene, task: Task) -> None:
        """Write the heading of an example and what it asks."""
        heading = f"{scene.number}/{self._total} {scene.example.title}"
        self._console.print()
        self._console.print(Rule(Text(heading, "bold"), align="left"), width=self._width)
        how = "streamed" if task.streaming else "in one piece"
        self._line(f"{task.kind} · {task.model} · vendor {task.vendor} · {how}", "dim")
        question = question_in(task.request)
        asked = f"“{question}”" if question else "what the function returned, sent back"
        self._line(asked, "italic")
        self._begin_text()

    def event(self, event: Event) -> None:
        """Write what an event adds: a piece of text, or a note."""
        if isinstance(event, Started) and event.attempt > 1:
            text = "restarted, what came above is void" if event.resets else "trying again"
            self._aside(f"↻ attempt {event.attempt}: {text}", "yellow")
        self._write(self._view.piece(event))
        if isinstance(event, Retrying):
            error, delay_s = event.error, event.delay_ms / 1000
            status = f" (HTTP {error.status})" if error.status else ""
            self._aside(f"✗ {error.code}{status}; next attempt in {delay_s:.1f} s", "red")
        if isinstance(event, Failed):
            self._aside(f"✗ {event.error.code}: {event.error.message}", "red")

    def end(self, row: Row, result: Result | None) -> None:
        """Write what is left of the answer, and the figures."""
        if result is not None:
            self._write(self._view.rest(result))
        self._out(self._wrap.close())
        sign, style = ("✓", "green") if row.as_meant else ("✗", "red")
        said = [row.outcome, f"{row.total_ms} ms" if row.total_ms is not None else ""]
        if row.first_chunk_ms is not None:
            said.append(f"first chunk after {row.first_chunk_ms} ms")
        said.append(f"{_tokens(row)} tokens {row.provenance}" if result else "")
        self._line(f"{sign} {' · '.join(text for text in said if text)}", style)

    def called(self, call: ToolCall, answer: str | None) -> None:
        """Write a function call and what it came to."""
        self._line(f"→ the model calls {call.name}({call.arguments})", "magenta")
        came = "these arguments do not fit it" if answer is None else f"it returns {answer}"
        self._line(f"← {came}", "magenta")

    def summary(self, rows: Sequence[Row], metrics: Sequence[Moved]) -> None:
        """Write both tables."""
        self._console.print()
        self._console.print(_examples(rows), width=self._width)
        self._console.print()
        self._console.print(_metrics(metrics), width=self._width)

    def _begin_text(self) -> None:
        self._wrap = Wrap(self._width, _INDENT)
        self._view = TextView(on_reset=self._strike)
        self._below = 0

    def _write(self, text: str) -> None:
        """Write a piece of the answer."""
        if text:
            self._out(self._wrap.feed(text))
            self._below = 0

    def _out(self, text: str, style: str = "") -> None:
        if text:
            self._console.print(Text(text, style), end="", soft_wrap=True)

    def _aside(self, text: str, style: str) -> None:
        """Write a note below what has come of an answer, and count its rows."""
        self._out(self._wrap.close())
        self._below += self._line(text, style)

    def _line(self, text: str, style: str) -> int:
        """Write a note of its own, and return its rows."""
        wrap = Wrap(self._width, _INDENT)
        self._out(wrap.feed(text) + wrap.close(), style)
        return len(wrap.rows)

    def _strike(self) -> None:
        """Strike out the text above, where it is still on the screen, and begin anew."""
        rows = self._wrap.rows
        if self._can_strike and len(rows) + self._below < self._console.height:
            self._move(ControlType.CURSOR_UP, len(rows) + self._below)
            for row in rows:
                self._console.print(Text(_INDENT), Text(row, "dim strike"), sep="", soft_wrap=True)
            self._move(ControlType.CURSOR_DOWN, self._below)
        self._wrap = Wrap(self._width, _INDENT)

    def _move(self, way: ControlType, rows: int) -> None:
        if rows:
            self._console.control(Control((way, rows), ControlType.CARRIAGE_RETURN))


def _tokens(row: Row) -> str:
    """Write tokens in and out; what nobody knows is no 0."""
    counts = (row.input_tokens, row.output_tokens)
    return "/".join("?" if count is None else str(count) for count in counts)


def _examples(rows: Sequence[Row]) -> Table:
    table = Table(
        title="What happened",
        caption="first chunk and total in ms; tokens in/out as the provider reported them, or "
        "estimated where a call was cut (~)",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=True,
    )
    table.add_column("#", no_wrap=True)
    table.add_column("example", ratio=1)
    for name in ("attempts", "chunks", "first", "total", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for row in rows:
        first = row.first_chunk_ms
        table.add_row(
            row.number,
            row.title,
            str(row.attempts),
            str(row.chunks) if row.streamed else "whole",
            "–" if first is None else str(first),
            "–" if row.total_ms is None else str(row.total_ms),
            ("~" if row.provenance == "estimated" else "") + _tokens(row),
            Text(row.outcome, "green" if row.as_meant else "bold red"),
        )
    return table


def _metrics(metrics: Sequence[Moved]) -> Table:
    table = Table(
        title="Metrics that moved",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=True,
    )
    table.add_column("metric", no_wrap=True)
    table.add_column("by", justify="right", no_wrap=True)
    table.add_column("of these", ratio=1)
    for moved in metrics:
        table.add_row(moved.name, f"+{moved.by}", moved.detail)
    return table
