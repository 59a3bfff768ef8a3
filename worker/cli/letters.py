"""Dead letters in words for people, in 80 columns. Pure.

Whatever stands in a letter may be a stranger's: it is written without control characters.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from rich.cells import chop_cells, set_cell_size

from api_contracts.errors import MESSAGE_LIMIT
from api_contracts.results import Attempt, DeadLetter
from worker.cli.terminal import one_line
from worker.cli.words import moment, reason, seconds

#: Columns of a terminal that nobody has widened.
WIDTH: Final = 80
#: Columns of the names in a report, with the space behind them.
_NAMES: Final = 9


def line(letter: DeadLetter, now_ms: int) -> str:
    """Write a letter in one line: its id, how long ago it died, its kind, and why."""
    why = f"{letter.error.code}: {letter.error.message}" if letter.error else ""
    age = seconds(max(0, now_ms - letter.ended_at))
    text = f"{one_line(letter.id)}  {age:>6}  {one_line(letter.kind):<7}  {one_line(why)}"
    return set_cell_size(text, WIDTH).rstrip()


def report(letter: DeadLetter, now_ms: int) -> Iterator[str]:
    """Yield the lines that say all of a letter but its body."""
    for name, said in _rows(letter, now_ms):
        head = name
        for part in textwrap.wrap(one_line(said)[:MESSAGE_LIMIT], WIDTH - _NAMES):
            for piece in chop_cells(part, WIDTH - _NAMES):
                yield f"{head:<{_NAMES}}{piece}"
                head = ""


def _rows(letter: DeadLetter, now_ms: int) -> Iterator[tuple[str, str]]:
    yield "letter", letter.id
    yield "kind", letter.kind
    yield "queue", letter.queue
    yield "created", moment(letter.created_at, now_ms)
    yield "died", moment(letter.ended_at, now_ms)
    if letter.error is not None:
        yield "error", reason(letter.error)
    if letter.deaths:
        yield "deaths", f"{letter.deaths} of its workers died"
    if letter.replays:
        yield "replays", str(letter.replays)
    for attempt in letter.attempts:
        yield "call", _call(attempt)
    yield "body", f"{letter.size} bytes; --request writes them"


def _call(attempt: Attempt) -> str:
    told = (
        (attempt.status, f"HTTP {attempt.status}"),
        (attempt.request_id, f"request id {attempt.request_id}"),
    )
    details = "; ".join(text for value, text in told if value)
    said = f"attempt {attempt.attempt} on {attempt.worker}: {attempt.outcome}"
    return f"{said} ({details})" if details else said
