"""Both clients, each driven by the same blocking calls, so that one suite holds them both."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from api_contracts.client import AsyncClient, AsyncHandle, Client, Handle
from api_contracts.events import Event
from api_contracts.requests import Task
from api_contracts.results import DeadLetter, Result, Status
from tests.parts.cable import Cable
from tests.parts.scripts import Hand, a_task


class Shell(Protocol):
    """What both clients do, as a test calls it."""

    def enqueue(self, task: Task | dict[str, Any]) -> str: ...
    def enqueue_all(self, tasks: Iterable[Task | dict[str, Any]]) -> list[str]: ...
    def stream(self, task_id: str, after: str | None = None) -> Iterator[Event]: ...
    def text(self, task_id: str, on_reset: Callable[[], None] | None = None) -> Iterator[str]: ...
    def result(self, task_id: str, timeout: float | None = None) -> Result: ...
    def status(self, task_id: str) -> Status: ...
    def cancel(self, task_id: str) -> bool: ...
    def dead_letters(
        self, limit: int = 100, before: DeadLetter | None = None
    ) -> list[DeadLetter]: ...
    def dead_letter(self, letter_id: str) -> DeadLetter: ...
    def dead_letter_body(self, letter_id: str) -> bytes: ...
    def replay(self, task_id: str) -> None: ...
    def drop(self, letter_id: str) -> None: ...


class SyncShell:
    """Client itself."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.result, self.status, self.stream = client.result, client.status, client.stream
        self.dead_letters, self.dead_letter = client.dead_letters, client.dead_letter
        self.dead_letter_body = client.dead_letter_body
        self.replay, self.drop = client.replay, client.drop

    def enqueue(self, task: Task | dict[str, Any]) -> str:
        return self.client.enqueue(task).id

    def enqueue_all(self, tasks: Iterable[Task | dict[str, Any]]) -> list[str]:
        return [handle.id for handle in self.client.enqueue_all(tasks)]

    def cancel(self, task_id: str) -> bool:
        return Handle(self.client, task_id).cancel()

    def text(self, task_id: str, on_reset: Callable[[], None] | None = None) -> Iterator[str]:
        return Handle(self.client, task_id).text(on_reset)


class AsyncShell:
    """AsyncClient on a loop in another thread."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self.client = client
        self._portal = portal
        self._iterations: list[Generator[Any, None, None]] = []

    def enqueue(self, task: Task | dict[str, Any]) -> str:
        handle: AsyncHandle = self._portal.call(self.client.enqueue, task)
        return handle.id

    def enqueue_all(self, tasks: Iterable[Task | dict[str, Any]]) -> list[str]:
        handles: list[AsyncHandle] = self._portal.call(self.client.enqueue_all, tasks)
        return [handle.id for handle in handles]

    def stream(self, task_id: str, after: str | None = None) -> Iterator[Event]:
        return self._followed(self.client.stream(task_id, after))

    def text(self, task_id: str, on_reset: Callable[[], None] | None = None) -> Iterator[str]:
        return self._followed(AsyncHandle(self.client, task_id).text(on_reset))

    def result(self, task_id: str, timeout: float | None = None) -> Result:
        return self._portal.call(self.client.result, task_id, timeout)

    def status(self, task_id: str) -> Status:
        return self._portal.call(self.client.status, task_id)

    def cancel(self, task_id: str) -> bool:
        return self._portal.call(AsyncHandle(self.client, task_id).cancel)

    def dead_letters(self, limit: int = 100, before: DeadLetter | None = None) -> list[DeadLetter]:
        return self._portal.call(self.client.dead_letters, limit, before)

    def dead_letter(self, letter_id: str) -> DeadLetter:
        return self._portal.call(self.client.dead_letter, letter_id)

    def dead_letter_body(self, letter_id: str) -> bytes:
        return self._portal.call(self.client.dead_letter_body, letter_id)

    def replay(self, task_id: str) -> None:
        self._portal.call(self.client.replay, task_id)

    def drop(self, letter_id: str) -> None:
        self._portal.call(self.client.drop, letter_id)

    def close(self) -> None:
        """Close what a test has left open."""
        for iteration in self._iterations:
            iteration.close()

    def _followed(self, pieces: Any) -> Iterator[Any]:
        self._iterations.append(iteration := self._iterate(pieces))
        return iteration

    def _iterate(self, pieces: Any) -> Generator[Any, None, None]:
        end = object()
        try:
            while (piece := self._portal.call(partial(anext, pieces, end))) is not end:
                yield piece
        finally:
            self._portal.call(pieces.aclose)


class StartShell(Protocol):
    """What the fixture `start_shell` is."""

    def __call__(self, url: str, **options: Any) -> Shell:
        """Make a client of the kind under test; it is closed with the test."""


@contextmanager
def _async_shell(url: str, **options: Any) -> Iterator[AsyncShell]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            portal.call(partial(AsyncClient, url, **options))
        ) as client,
    ):
        shell = AsyncShell(client, portal)
        try:
            yield shell
        finally:
            shell.close()


@pytest.fixture(params=["Client", "AsyncClient"])
def start_shell(request: pytest.FixtureRequest) -> Iterator[StartShell]:
    """Make clients of both kinds in turn."""
    with ExitStack() as stack:

        def start(url: str, **options: Any) -> Shell:
            if request.param == "Client":
                return SyncShell(stack.enter_context(Client(url, **options)))
            return stack.enter_context(_async_shell(url, **options))

        yield start


@pytest.fixture
def shell(start_shell: StartShell, redis_url: str) -> Shell:
    """A client of the session's server."""
    return start_shell(redis_url)


class Begin(Protocol):
    """What the fixture `begin` is."""

    def __call__(self, **options: Any) -> Hand:
        """Enqueue a task and claim it: a worker's hand that holds its first attempt."""


@pytest.fixture
def begin(shell: Shell, redis: Any) -> Begin:
    """A task that runs, in the test's hand."""

    def begin(**options: Any) -> Hand:
        return Hand(redis, shell.enqueue(a_task(**options)))

    return begin


@pytest.fixture
def cable(redis_url: str) -> Iterator[Cable]:
    """The way to the session's server, which the test may cut."""
    cable = Cable(urlsplit(redis_url).port or 0)
    yield cable
    cable.close()
