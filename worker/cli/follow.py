"""Follow tasks to their end, and write what comes: what chat, native, enqueue and watch share.

1. The record is asked first: a task that is not there, and a Redis that is away, are told at once.
2. Events are written as they come: pieces of text to standard output, the rest as notes.
3. At the end, what no piece had: the whole answer where it was not streamed, its tool calls.
4. Ctrl-C and ``--timeout`` end the following, never the task: the command to come back is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from api_contracts.client import AsyncClient
from api_contracts.client.text import text_of_chunk
from api_contracts.errors import ResultTimeout, TaskEnded
from api_contracts.events import Chunk, Event, Started
from api_contracts.results import Result
from worker.cli.answers import readable, tool_calls
from worker.cli.exits import Exit, Interrupted, Stopped
from worker.cli.failures import words
from worker.cli.terminal import Screen
from worker.cli.words import come_back, note, summary


class Follower:
    """Follows one task after the other, and knows how far it has come in each."""

    def __init__(self, *, as_json: bool, timeout_s: float | None) -> None:
        """Write events as JSON lines or as text; wait so long for all tasks together."""
        self._as_json = as_json
        self._timeout_s = timeout_s
        self._screen = Screen()
        #: Id of the last event seen, by the id of each task that has not ended yet.
        self._open: dict[str, str | None] = {}

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the coroutine that uses this follower, within the time that there is.

        ResultTimeout and Interrupted say how to come back.
        """
        try:
            asyncio.run(self._in_time(work))
        except KeyboardInterrupt:
            raise Interrupted(self._farewell("interrupted")) from None

    def expect(self, task_id: str, after: str | None = None) -> None:
        """Note that a task is out, so that whoever gives up is told of it."""
        self._open[task_id] = after

    async def follow(self, client: AsyncClient, task_id: str, after: str | None = None) -> None:
        """Write a task's events behind ``after``, then its answer; TaskEnded where it has none."""
        await client.status(task_id)
        self.expect(task_id, after)
        shown = False
        async for event in client.stream(task_id, after):
            self._open[task_id] = event.id
            shown = self._show(event, shown=shown)
        try:
            result = await client.result(task_id)
        except TaskEnded:
            del self._open[task_id]
            raise
        del self._open[task_id]
        if not self._as_json:
            self._finish(result, shown=shown, resumed=after is not None)

    async def follow_all(self, client: AsyncClient) -> None:
        """Follow every expected task in turn; Stopped at the end where some had no answer."""
        failed = 0
        expected = tuple(self._open)
        for task_id in expected:
            try:
                await self.follow(client, task_id)
            except TaskEnded as error:
                self._screen.note(words(error))
                failed += 1
        if failed:
            message = f"{failed} of {len(expected)} tasks ended without a result"
            raise Stopped(message, Exit.FAILED)

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        timer = asyncio.timeout(self._timeout_s)
        try:
            async with timer:
                await work
        except TimeoutError:
            if not timer.expired():
                raise
            raise ResultTimeout(self._farewell("the time is up")) from None
        finally:
            self._screen.end_line()

    def _show(self, event: Event, *, shown: bool) -> bool:
        """Write an event; tell whether text of the live attempt stands on the screen now."""
        if self._as_json:
            # Only what the publisher wrote: no default that it left out.
            self._screen.line(event.model_dump_json(exclude_unset=True))
            return shown
        if isinstance(event, Started) and event.resets:
            self._screen.end_line()
            shown = False
        said = note(event)
        if said is not None:
            self._screen.note(said)
        text = text_of_chunk(event.data) if isinstance(event, Chunk) else ""
        self._screen.write(text)
        return shown or bool(text)

    def _finish(self, result: Result, *, shown: bool, resumed: bool) -> None:
        """Write what the pieces did not have. Who resumes a stream has seen its beginning."""
        streamed = result.timings.first_chunk_ms is not None
        rest = tool_calls if shown or (resumed and streamed) else readable
        if text := rest(result.response):
            self._screen.line(text)
        self._screen.note(summary(result))

    def _farewell(self, why: str) -> str:
        """Say what goes on, and how to come back to it."""
        if not self._open:
            return why
        back = (f"  {come_back(task_id, cursor)}" for task_id, cursor in self._open.items())
        return "\n".join((f"{why}; the task goes on. Come back to it with:", *back))
