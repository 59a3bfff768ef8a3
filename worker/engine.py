"""The event loop in its own thread, and the bridge to it from Celery's."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

Value = TypeVar("Value")


class Engine:
    """One loop, which does all the waiting of a worker process."""

    def __init__(self) -> None:
        """Make the loop; :meth:`start` runs it."""
        self.loop: asyncio.AbstractEventLoop = new_event_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Run the loop in its thread."""
        self._thread.start()

    def submit(self, work: Callable[[], Coroutine[Any, Any, Value]]) -> Future[Value]:
        """Run a coroutine on the loop; the future is for another thread to wait on."""
        return asyncio.run_coroutine_threadsafe(_called(work), self.loop)

    def begin(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine on the loop, whose end nobody waits for."""
        self.loop.call_soon_threadsafe(self._begin, work)

    def call(
        self, work: Callable[[], Coroutine[Any, Any, Value]], timeout_s: float | None = None
    ) -> Value:
        """Run a coroutine on the loop and wait for what it returns or raises."""
        return self.submit(work).result(timeout_s)

    def stop(self) -> None:
        """Stop the loop and wait for its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        # The loop holds it until it first waits, and whoever it waits for from then on.
        self.loop.create_task(work())

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


async def _called(work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
    """Make the coroutine on the loop itself, so that one that never ran is never left unawaited."""
    return await work()
