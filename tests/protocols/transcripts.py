"""The recorded streams of `tests/transcripts`, and the shortest way to fold one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from worker.frames import Decoder
from worker.protocols import anthropic, gemini, openai
from worker.protocols.base import Call, Fold, ProtocolModule

FOLDER: Final = Path(__file__).parents[1] / "transcripts"
MODULES: Final[dict[str, ProtocolModule]] = {
    "anthropic": anthropic,
    "gemini": gemini,
    "openai": openai,
}
CONTENT_TYPES: Final = {
    ".sse": "text/event-stream; charset=utf-8",
    ".array": "application/json; charset=UTF-8",
}


@dataclass(frozen=True)
class Transcript:
    """One recorded stream."""

    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def module(self) -> ProtocolModule:
        return MODULES[self.path.parent.name]

    @property
    def data(self) -> bytes:
        return _read(self.path)

    @property
    def expected(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(_read(self.path.with_suffix(".expected.json")))
        return loaded

    def decoder(self) -> Decoder:
        return self.module.decoder(CONTENT_TYPES[self.path.suffix])

    def frames(self, *pieces: bytes) -> list[bytes]:
        """Decode the pieces, or the whole where none is given."""
        decoder = self.decoder()
        frames = [frame for piece in pieces or (self.data,) for frame in decoder.feed(piece)]
        return [*frames, *decoder.close()]

    def fold(self) -> Fold:
        answers = self.expected.get("answers", 1)
        return self.module.fold(Call("POST", "/", {}, b"", stream=True, answers=answers))

    def published(self) -> list[dict[str, Any]]:
        """Return the chunks that subscribers see."""
        fold = self.fold()
        return [json.loads(frame) for frame in self.frames() if fold.add(frame)]


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


EVERY: Final = sorted(
    (Transcript(path) for path in FOLDER.glob("*/*") if path.suffix in CONTENT_TYPES),
    key=lambda one: one.name,
)
WHOLE: Final = [one for one in EVERY if "response" in one.expected]
FAILED: Final = [one for one in EVERY if "failure" in one.expected]
TRUNCATED: Final = [one for one in EVERY if "truncated" in one.expected]


def name_of(transcript: Transcript) -> str:
    return transcript.name
