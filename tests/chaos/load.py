"""A producer and its subscribers: `python -m tests.chaos.load`, one process of several.

Each of its threads does what a service does: it enqueues a task, follows its events while it
runs, puts the text together, and then takes the next. Nothing is retried that a service would not
retry: an enqueue that failed is repeated with the same id, a stream that broke is taken up again
behind the last event. So the load is never more than what the workers get done.

Of the tasks, one in ten is enqueued twice, and one in ten a second time under another id with the
same idempotency key: both must come to one. One stream in five is left and taken up again.

Everything is noted in a file, one JSON object a line: what was accepted, and what was seen.
SIGTERM: no more tasks; it ends when every task that it follows has ended.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from api_contracts.client import Client
from api_contracts.client.text import TextView, text_of_response
from api_contracts.errors import RouterWorkerError, StoreUnavailable
from api_contracts.events import ENDINGS, Completed, Event, EventId, Started
from tests.chaos.shapes import Shape, group

Json = dict[str, Any]

#: Pause before what Redis did not take is tried again, in seconds.
_PAUSE_S: Final = 0.1
#: Share of tasks that are enqueued twice, that come again under one idempotency key, and of streams
#: that are left and taken up again.
_TWICE: Final = 0.1
_SAME_KEY: Final = 0.1
_LEAVES: Final = 0.2


class Notes:
    """The file; threads share it."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._file = file.open("a")

    def note(self, what: str, **fields: Any) -> None:
        """Write a line, at once: this process may be killed."""
        line = json.dumps({"what": what, **fields})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()


class Deck:
    """Gives out shapes in random order, each once before any comes again."""

    def __init__(self, shapes: Sequence[Shape], chance: Random) -> None:
        self._shapes = list(shapes)
        self._chance = chance
        self._lock = threading.Lock()
        self._left: list[Shape] = []

    def draw(self) -> Shape:
        """Take the next."""
        with self._lock:
            if not self._left:
                self._left = self._chance.sample(self._shapes, len(self._shapes))
            return self._left.pop()


@dataclass
class Sight:
    """What a subscriber has seen of one task."""

    task_id: str
    ids: list[str] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    usage: Json | None = None
    #: How often it left, how often the stream broke, and how often it began an attempt again.
    left: int = 0
    broken: int = 0
    rewound: int = 0

    def __post_init__(self) -> None:
        self._view = TextView(on_reset=self.pieces.clear)

    def see(self, event: Event) -> None:
        """Take an event."""
        assert event.task_id == self.task_id
        if isinstance(event, Started) and self.ids and event.cursor <= EventId.parse(self.ids[-1]):
            # Redis has lost the end of the log: what was seen of this attempt is void.
            self.ids = [one for one in self.ids if EventId.parse(one) < event.cursor]
            self.rewound += 1
        self.ids.append(event.id)
        self.pieces.append(self._view.piece(event))
        if event.type in ENDINGS:
            self.endings.append(event.type)
        if isinstance(event, Completed):
            self.usage = event.usage.model_dump()
            if event.result is not None and not any(self.pieces):
                self.pieces.append(text_of_response(event.result.response))


class Service:
    """One thread of a service."""

    def __init__(self, client: Client, notes: Notes, deck: Deck, chance: Random) -> None:
        self._client = client
        self._notes = notes
        self._deck = deck
        self._chance = chance

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        while not stop.is_set():
            shape = self._deck.draw()
            task = shape.task(self._new_id())
            task["options"] = {"priority": self._chance.choice(("interactive", "batch"))}
            if self._enqueue(shape, task, stop):
                self._follow(Sight(task["id"]))

    def _enqueue(self, shape: Shape, task: Json, stop: threading.Event) -> bool:
        """Enqueue a task until it is accepted; False where the end came first."""
        also: list[Json] = []
        if self._chance.random() < _TWICE:
            also.append(task)
        if self._chance.random() < _SAME_KEY:
            task["options"]["idempotency_key"] = task["id"]
            also.append(task | {"id": self._new_id()})
        for number, one in enumerate((task, *also)):
            known_as = self._accepted(one, stop)
            if known_as is None:
                return number > 0
            if number == 0:
                self._notes.note("accepted", id=known_as, shape=shape.name)
            elif known_as != task["id"]:
                self._notes.note("split", id=task["id"], other=known_as)
        return True

    def _accepted(self, task: Json, stop: threading.Event) -> str | None:
        while True:
            began = time.monotonic()
            try:
                return self._client.enqueue(task).id
            except StoreUnavailable as error:
                took = round(time.monotonic() - began, 3)
                self._notes.note("refused", id=task["id"], seconds=took, error=str(error))
            if stop.wait(_PAUSE_S):
                return None

    def _follow(self, sight: Sight) -> None:
        """Follow a task to its ending, and note what was seen."""
        while not sight.endings:
            try:
                for event in self._events(sight):
                    sight.see(event)
            except StoreUnavailable:
                sight.broken += 1
            except RouterWorkerError as error:
                # It is accepted and never seen: lost.
                self._notes.note("gone", id=sight.task_id, error=repr(error))
                return
        self._notes.note(
            "seen",
            id=sight.task_id,
            ids=sight.ids,
            endings=sight.endings,
            text="".join(sight.pieces),
            usage=sight.usage,
            left=sight.left,
            broken=sight.broken,
            rewound=sight.rewound,
        )

    def _events(self, sight: Sight) -> Iterator[Event]:
        """Yield the events that come, behind the last one seen; perhaps leave before the end."""
        leaves = self._chance.random() < _LEAVES
        stays = self._chance.randint(1, 20) if leaves else sys.maxsize
        after = sight.ids[-1] if sight.ids else None
        with closing(self._client.stream(sight.task_id, after)) as events:
            for number, event in enumerate(events, 1):
                yield event
                if number == stays:
                    sight.left += 1
                    return

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))


def main() -> None:
    """Read the command line, and work."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--shapes", nargs="+", required=True)
    chosen = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    notes = Notes(chosen.notes)
    deck = Deck(group(*chosen.shapes), Random(chosen.seed))
    with Client(chosen.url) as client:
        services = [
            Service(client, notes, deck, Random(f"{chosen.seed} {number}"))
            for number in range(chosen.threads)
        ]
        with ThreadPoolExecutor(chosen.threads) as pool:
            for ended in as_completed([pool.submit(service.run, stop) for service in services]):
                ended.result()


if __name__ == "__main__":
    main()
