"""The work that is done while things break: tasks, what aimock answers to each, and what must
have come of it in the end. Pure.

Every shape has a text of its own, so that a piece of one task's answer in another's shows. The
prompt names the shape, which is how aimock's fixtures find it. The header ``x-test-id`` carries
the task's id: aimock counts sequences by it, and its journal tells whose call each one was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from tests.parts.answers import GEMINI

Json = dict[str, Any]
Protocol = Literal["chat", "messages", "gemini"]

#: Header by which aimock tells tasks apart.
TASK_HEADER: Final = "x-test-id"
#: Tokens that aimock reports for every whole answer: input and output.
USAGE: Final = (12, 7)
#: Characters in a chunk.
CHUNK: Final = 9
#: Where the texts come from; not a run's seed, so that a shape is the same in every run.
_TEXTS: Final = 20_261_122

_WORDS: Final = (
    "a", "and", "as", "before", "but", "deep", "every", "falls", "for", "grey", "has", "in", "is",
    "it", "light", "long", "nobody", "ocean", "of", "once", "over", "rain", "salt", "sea", "ship",
    "slow", "stone", "that", "the", "then", "tide", "to", "under", "wave", "what", "wind", "ü", "☃",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """One kind of task."""

    name: str
    text: str
    protocol: Protocol = "chat"
    stream: bool = True
    #: Time between two chunks, in ms.
    latency: int = 0
    #: What the first call of a task gets in place of the answer: more fields of its fixture.
    first: Json | None = None

    @property
    def prompt(self) -> str:
        """What the user says; no other shape's prompt is in it."""
        return f"say {self.name}!"

    def fixtures(self) -> Iterator[Json]:
        """Yield what aimock must know to answer it."""
        usage = dict(zip(("prompt_tokens", "completion_tokens"), USAGE, strict=True))
        match = {"userMessage": self.prompt}
        answer: Json = {
            "match": match,
            "response": {"content": self.text, "usage": usage},
            "latency": self.latency,
            "chunkSize": CHUNK,
        }
        if self.first is not None:
            yield answer | {"match": match | {"sequenceIndex": 0}} | self.first
        yield answer

    def task(self, task_id: str) -> Json:
        """Make a task of this shape."""
        if self.protocol == "gemini":
            path = f"{GEMINI}:streamGenerateContent?alt=sse"
            request: Json = {"contents": [{"role": "user", "parts": [{"text": self.prompt}]}]}
            made: Json = {"kind": "native", "path": path, "request": request}
        else:
            message = {"role": "user", "content": self.prompt}
            request = {"model": "m", "messages": [message], "stream": self.stream}
            made = {"kind": "chat", "request": request}
            if self.protocol == "messages":
                made |= {"kind": "native", "path": "/v1/messages"}
                request["max_tokens"] = 999
        return made | {"id": task_id, "headers": {TASK_HEADER: task_id}}


def _text(name: str, chunks: int) -> str:
    """Write the text of a shape: so many chunks."""
    chance = Random(f"{_TEXTS} {name}")
    text = name
    while len(text) < chunks * CHUNK:
        text += " " + chance.choice(_WORDS)
    return text[: chunks * CHUNK]


def _streams(count: int, protocol: Protocol, longest_ms: int) -> Iterator[Shape]:
    """Yield streams of up to 40 chunks, which take up to ``longest_ms``."""
    for number in range(count):
        name = f"{protocol}-{number:02}"
        chance = Random(f"{_TEXTS} {name}")
        chunks = chance.randint(3, 40)
        latency = round(chance.uniform(1, longest_ms / chunks))
        yield Shape(name, _text(name, chunks), protocol, latency=latency)


def _cuts() -> Iterator[Shape]:
    """Yield streams whose first call is cut before each of their frames in turn.

    aimock cuts before the frame that it counts to. (Behind the finish frame an answer is whole:
    that cut is one of tests/e2e/test_broken_streams.py.)
    """
    chunks = 9
    around: dict[Protocol, int] = {"chat": 2, "messages": 5, "gemini": 0}
    for protocol, more in around.items():
        for place in range(1, chunks + more + 1):
            name = f"cut-{protocol}-{place:02}"
            cut = {"latency": 5, "truncateAfterChunks": place}
            yield Shape(name, _text(name, chunks), protocol, latency=5, first=cut)


def _refusals() -> Iterator[Shape]:
    """Yield tasks whose first call gets an error, no answer at all, or nonsense."""
    wait = {"error": {"message": "wait"}, "status": 429, "retryAfter": 0.05}
    busy = {"error": {"message": "busy"}, "status": 503}
    first: dict[str, Json] = {
        "429": {"response": wait},
        "503": {"response": busy},
        "500": {"chaos": {"dropRate": 1}},
        "reset": {"chaos": {"disconnectRate": 1}},
        "nonsense": {"chaos": {"malformedRate": 1}},
    }
    for what, fixture in first.items():
        for protocol in ("chat", "messages", "gemini"):
            name = f"first-{what}-{protocol}"
            yield Shape(name, _text(name, 6), protocol, latency=2, first=fixture)


def _all() -> Iterator[tuple[str, Shape]]:
    """Yield every shape with its group."""
    for shape in (*_streams(32, "chat", 900), *_streams(6, "messages", 600)):
        yield "mixed", shape
    for shape in _streams(6, "gemini", 600):
        yield "mixed", shape
    for number in range(8):
        name = f"whole-{number:02}"
        yield "mixed", Shape(name, _text(name, 20), stream=False)
    for number in range(8):
        name = f"long-{number:02}"
        yield "long", Shape(name, _text(name, 60), latency=50)
    for shape in (*_cuts(), *_refusals()):
        yield "cut", shape


_GROUPED: Final = tuple(_all())
#: Every shape, by its name.
SHAPES: Final = {shape.name: shape for _, shape in _GROUPED}


def group(*names: str) -> list[Shape]:
    """Return the shapes of these groups: ``mixed``, ``long`` (3 s), ``cut`` (first calls fail)."""
    return [shape for of, shape in _GROUPED if of in names]
