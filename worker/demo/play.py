"""Runs the examples, one after the other, and keeps what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, TypeVar, get_args

from api_contracts.client import AsyncClient
from api_contracts.events import (
    Chunk,
    Completed,
    Ending,
    Event,
    Failed,
    Queued,
    Retrying,
    Started,
)
from api_contracts.names import DEFAULT_PREFIX
from api_contracts.requests import Task, parse_task
from api_contracts.results import Result
from worker.demo.child import PartFailed
from worker.demo.guide import GUIDE, Example, fault_examples
from worker.demo.stage import Stage
from worker.demo.tools import ToolCall, calls_in, results_in

#: Longest wait for one example, in seconds: a slow model's story takes less.
EXAMPLE_S: Final = 120.0
#: Seconds between two looks whether every part still runs.
_CHECK_S: Final = 0.2

#: How an example is meant to go: at once, after a retry, or from the start again.
Course = Literal["completed", "retried", "restarted"]
COURSES: Final = frozenset(get_args(Course))
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Scene:
    """An example in its place: ``number`` is ``3``, or ``4b`` for what follows from 4."""

    number: str
    example: Example
    meant: Course = "completed"

    @property
    def task(self) -> Task:
        """The task, streamed so that one can watch; where a function call is awaited, whole.

        The body stays the guide's own: how an answer comes is an option of ours.
        """
        options = {} if self.example.then else {"stream": True}
        return parse_task({**self.example.task, "options": options})


@dataclass(frozen=True, slots=True)
class Row:
    """What became of an example. ``outcome`` is its course, or why it has none."""

    number: str
    title: str
    meant: Course
    outcome: str = "no ending"
    attempts: int = 0
    chunks: int = 0
    streamed: bool = False
    first_chunk_ms: int | None = None
    total_ms: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    provenance: str = "unavailable"

    @property
    def as_meant(self) -> bool:
        """Whether it went as the demonstration promises; a real router may ask for a retry."""
        return self.outcome == self.meant or (self.meant == "completed" and self.outcome in COURSES)


class Teller(Protocol):
    """Who is told what happens."""

    def begin(self, scene: Scene, task: Task) -> None:
        """Tell that an example begins."""

    def event(self, event: Event) -> None:
        """Tell an event of it, as it arrives."""

    def end(self, row: Row, result: Result | None) -> None:
        """Tell what became of it."""

    def called(self, call: ToolCall, answer: str | None) -> None:
        """Tell that its model called a function, and what that said; None where it could not."""


def scenes(run: str, *, simulated: bool) -> list[Scene]:
    """Return what is played: the guide, and the faults where they can be ordered."""
    played = [Scene(str(place), example) for place, example in enumerate(GUIDE, 1)]
    if simulated:
        courses: tuple[Course, ...] = ("retried", "restarted")
        for example, meant in zip(fault_examples(run), courses, strict=True):
            played.append(Scene(str(len(played) + 1), example, meant))
    return played


async def play(stage: Stage, played: Sequence[Scene], teller: Teller) -> list[Row]:
    """Run the scenes and what follows from them; PartFailed where a part ends meanwhile."""
    url, rows = stage.redis.url, []
    # Given, the broker and the prefix are not taken from the environment.
    async with AsyncClient(url, broker_url=url, prefix=DEFAULT_PREFIX) as client:
        for scene in played:
            following: Scene | None = scene
            while following is not None:
                row, following = await _bounded(_run(client, following, teller), stage)
                rows.append(row)
    return rows


async def _bounded(work: Awaitable[Value], stage: Stage) -> Value:
    """Wait for an example, as long as every part runs."""
    running = asyncio.ensure_future(work)
    try:
        async with asyncio.timeout(EXAMPLE_S):
            while not running.done():
                await asyncio.wait({running}, timeout=_CHECK_S)
                stage.check()
    except TimeoutError:
        message = f"an example had not ended after {EXAMPLE_S:g} s"
        raise PartFailed(message) from None
    finally:
        running.cancel()
        await asyncio.wait({running})
    return running.result()


async def _run(client: AsyncClient, scene: Scene, teller: Teller) -> tuple[Row, Scene | None]:
    """Run one task to its ending; return what became of it, and what its answer asks for."""
    task = scene.task
    teller.begin(scene, task)
    row = Row(scene.number, scene.example.title, scene.meant, streamed=task.streaming)
    handle = await client.enqueue(task)
    result: Result | None = None
    async for event in handle:
        teller.event(event)
        row = _noted(row, event)
        if isinstance(event, Completed):
            result = event.result or await handle.result()
    if result is None:
        teller.end(row, None)
        return row, None
    follow_up, calls = _follow_up(scene, result)
    row = _measured(row, result)
    if scene.example.then and follow_up is None:
        row = replace(row, outcome="no call")
    for call, answer in calls:
        teller.called(call, answer)
    teller.end(row, result)
    return row, follow_up


def _noted(row: Row, event: Event) -> Row:
    """Put an event into the row."""
    match event:
        case Queued():
            return row
        case Chunk():
            return replace(row, chunks=row.chunks + 1)
        case Started():
            outcome = "restarted" if event.resets else row.outcome
            return replace(row, attempts=event.attempt, outcome=outcome, chunks=0)
        case _:
            return replace(row, outcome=_outcome(row.outcome, event))


def _outcome(before: str, event: Retrying | Ending) -> str:
    """Say what an example has come to; a restart says more than a retry."""
    match event:
        case Retrying():
            return before if before == "restarted" else "retried"
        case Completed():
            return before if before in COURSES else "completed"
        case Failed():
            return event.error.code.value
        case _:
            return event.type


def _measured(row: Row, result: Result) -> Row:
    usage, timings = result.usage, result.timings
    return replace(
        row,
        first_chunk_ms=timings.first_chunk_ms,
        total_ms=timings.total_ms,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        provenance=usage.provenance,
    )


def _follow_up(
    scene: Scene, result: Result
) -> tuple[Scene | None, list[tuple[ToolCall, str | None]]]:
    """Call the functions that the model asked for, as the guide's programs do.

    Returns what follows, and each call with what it came to. Nothing follows where the model
    called none, or in a way that the function does not understand.
    """
    then = scene.example.then
    calls = calls_in(result.response) if then else []
    if then is None or not calls:
        return None, []
    try:
        example = then(result.response)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None, [(call, None) for call in calls]
    answers = results_in(example.task["request"])
    return Scene(f"{scene.number}b", example), [(call, answers[call.id]) for call in calls]
