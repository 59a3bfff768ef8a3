"""The demonstration for programs: one JSON object a line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import click

from api_contracts.events import Event
from api_contracts.requests import Task
from api_contracts.results import Result
from worker.demo.play import Row, Scene
from worker.demo.scrape import Moved
from worker.demo.tools import ToolCall


class JsonLines:
    """Tells programs. Each line has a ``type``; an event's own stands inside ``event``."""

    def __init__(self) -> None:
        """Write to standard output."""
        self._number = ""

    def note(self, text: str) -> None:
        """Write what a person would be told."""
        _write("note", text=text)

    def commands(self, commands: Sequence[str]) -> None:
        """Write how to use what runs."""
        _write("commands", commands=list(commands))

    def begin(self, scene: Scene, task: Task) -> None:
        """Write what an example is."""
        self._number = scene.number
        title, kind = scene.example.title, task.kind
        _write(
            "example",
            number=scene.number,
            title=title,
            kind=kind,
            model=task.model,
            vendor=task.vendor,
        )

    def event(self, event: Event) -> None:
        """Write an event."""
        _write("event", number=self._number, event=event.model_dump(mode="json"))

    def end(self, row: Row, result: Result | None) -> None:
        """Write nothing: the ending was an event, and the rows come last."""

    def called(self, call: ToolCall, answer: str | None) -> None:
        """Write a function call and what it came to."""
        _write("call", number=self._number, **dataclasses.asdict(call), answer=answer)

    def summary(self, rows: Sequence[Row], metrics: Sequence[Moved]) -> None:
        """Write the rows of both tables."""
        for row in rows:
            _write("row", **dataclasses.asdict(row), as_meant=row.as_meant)
        for moved in metrics:
            _write("metric", **dataclasses.asdict(moved))


def _write(type_: str, **fields: Any) -> None:
    click.echo(json.dumps({"type": type_, **fields}, ensure_ascii=False))
