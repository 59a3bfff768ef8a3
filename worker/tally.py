"""What is counted in Redis: how tasks ended, exactly. Pure.

What a worker counts in its own memory goes with it when it is killed. An ending is counted where it
cannot be lost, nor counted twice:

1. Whoever ends a task writes into its record, in the same step, what is to be counted
   (`uncounted`).
2. ``over.lua`` strikes the task off the list of those that go on (``rw:due``), counts, and deletes
   the record's note, in one step: without the note nothing is counted, however often that is asked
   for. Whoever ended the task calls it next; if he dies before, the reaper comes by.
3. On a cluster the record may be another server's. There the list is what is counted by, and the
   note is deleted next. An id that comes on the list again between the two is counted twice.

The counts are the fleet's, and one worker tells them (``lua/elect.lua``). They stand in one hash: a
field's name is its metric's and its labels' values, as JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

from api_contracts.errors import ErrorCode
from api_contracts.names import State
from worker.telemetry import (
    DEAD_LETTERS,
    TASKS,
    Row,
    TaskEnd,
    kind_label,
    model_label,
    vendor_label,
)

#: The metrics that are counted so.
TALLIED: Final = (TASKS, DEAD_LETTERS)
#: Names that are kept written: all that a worker with some hundred models needs.
_NAMES: Final = 4096
#: Most characters of what is to be counted for one task: two names have 200.
_LIMIT: Final = 1024
#: Largest count that Redis itself counts to.
_LARGEST: Final = 2**63 - 1

#: What was counted, by metric and by its labels' values.
Counts = dict[Row, Counter[tuple[str, ...]]]


class Tally:
    """Names what is to be counted, and reads what was."""

    def __init__(self, models: Collection[str]) -> None:
        """Take the models that have a label of their own."""
        self._models = models

    def ended(self, task: TaskEnd, dead: ErrorCode | None = None) -> str:
        """Name a task's ending, a line each; ``dead`` where it is kept as a dead letter."""
        name = _name(TASKS, *self._task_labels(task.kind, task.vendor, task.model, task.outcome))
        return name if dead is None else f"{name}\n{_name(DEAD_LETTERS, dead)}"

    def read(self, fields: Iterable[tuple[bytes, bytes]]) -> Counts:
        """Read what Redis has counted.

        Anybody may have written there: what is none of ours is left, and so no label is the
        writer's to choose.
        """
        counts: Counts = {row: Counter() for row in TALLIED}
        for name, value in fields:
            try:
                row, labels = self._parsed(name)
                count = int(value)
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            if 0 <= count <= _LARGEST:
                counts[row][labels] += count
        return counts

    def known(self, text: str) -> str:
        """Keep of what a record says is to be counted what is ours."""
        lines = text.split("\n") if len(text) <= _LIMIT else []
        return "\n".join(line for line in lines if any(self.read([(line.encode(), b"1")]).values()))

    def _parsed(self, name: bytes) -> tuple[Row, tuple[str, ...]]:
        metric, *labels = json.loads(name)
        if metric == DEAD_LETTERS.name:
            (code,) = labels
            return DEAD_LETTERS, (ErrorCode(code),)
        if metric != TASKS.name:
            raise KeyError(metric)
        kind, vendor, model, outcome = labels
        return TASKS, self._task_labels(kind, vendor, model, State(outcome))

    def _task_labels(
        self, kind: str, vendor: str, model: str | None, outcome: State
    ) -> tuple[str, ...]:
        return (
            kind_label(kind), vendor_label(vendor), model_label(model, self._models), outcome.value,
        )  # fmt: skip


@lru_cache(_NAMES)
def _name(row: Row, *labels: str) -> str:
    return json.dumps([row.name, *labels], separators=(",", ":"))
