"""What every protocol module offers, so that the executor need not know which one it has.

A module has five functions, all pure::

    build(task, body, include_usage)  -> Call        what to send
    decoder(content_type)             -> Decoder     bytes of a stream -> JSON frames
    fold()                            -> Fold        frames -> the answer as if it came whole
    read(response)                    -> Answer      the same of an answer that came whole
    refuse(status, headers, body)     -> Failure     an answer that is no success
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from api_contracts.requests import Task
from api_contracts.results import Usage
from worker.errors import Failure

ProtocolName = Literal["openai", "anthropic", "gemini", "plain"]


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to the router, without its address and key."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    stream: bool

    def __repr__(self) -> str:
        """Show where it goes, never what it says."""
        return f"Call({self.method} {self.path}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the record keeps of a call that succeeded."""

    response: Any
    finish_reason: str | None
    usage: Usage


class Decoder(Protocol):
    """Cuts a stream into frames, wherever the network has cut it."""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Return the JSON texts that these bytes complete; none means "need more".

        Comments, event names and blank lines are dropped. OpenAI's ``[DONE]`` is a frame too.
        AttemptFailed(malformed) where the bytes are not what the content type promises, or one
        frame outgrows :data:`FRAME_LIMIT`.
        """

    def close(self) -> Sequence[bytes]:
        """End of file: return what was whole and only lacked its final blank line."""


class Fold(Protocol):
    """Collects the frames of one streamed answer."""

    #: Whether the finish frame was seen. Only then is there an answer.
    complete: bool

    def add(self, frame: bytes) -> bool:
        """Take the next frame; tell whether it is to be published.

        AttemptFailed for an error inside the stream, and for a frame that is no JSON.
        """

    def answer(self) -> Answer:
        """Return the answer as the non-streaming call would have; only when complete."""

    def partial_usage(self) -> Usage:
        """Return what is known of the tokens of a stream that was cut."""


#: Largest frame, in bytes: a whole 20 MiB picture in base64, as image models send it.
FRAME_LIMIT = 32 * 1024 * 1024


class ProtocolModule(Protocol):
    """The shape of ``worker.protocols.openai`` and its siblings."""

    NAME: ProtocolName

    def build(self, task: Task, body: bytes, *, include_usage: bool) -> Call:
        """Return what to send. ``body`` is the request's JSON, passed on as it is."""

    def decoder(self, content_type: str) -> Decoder:
        """Return a decoder for a stream of this content type."""

    def fold(self) -> Fold:
        """Return an empty fold."""

    def read(self, response: Any) -> Answer:
        """Read an answer that came whole; AttemptFailed where it is none, or is an error."""

    def refuse(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Read an answer whose status is no success. ``headers`` are lower-case."""
