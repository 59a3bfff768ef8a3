"""What every protocol module offers, so that the executor need not know which one it has.

A module has five functions, all pure::

    build(task, body, include_usage)      -> Call      what to send
    decoder(content_type)                 -> Decoder   bytes of a stream -> JSON frames
    fold(call)                            -> Fold      frames -> the answer as if it came whole
    read(response)                        -> Answer    the same of an answer that came whole
    refuse(status, headers, body, now)    -> Failure   an answer that is no success

``worker.protocols.select.protocol_of`` gives the module for a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from api_contracts.requests import Task
from api_contracts.results import Usage
from worker.errors import Failure
from worker.frames import Decoder

ProtocolName = Literal["openai", "anthropic", "gemini", "plain"]

#: What taking a frame apart raises where its JSON has not the shape that it should have.
WRONG_SHAPE: Final = (AttributeError, KeyError, TypeError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to the router, without its address; ``Router.authorized`` adds the key."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    stream: bool
    #: Whether we asked for the usage chunk, not the producer: then it is not published.
    usage_injected: bool = False
    #: How many answers were asked for (OpenAI's ``n``).
    answers: int = 1

    def __repr__(self) -> str:
        """Show where it goes, never what it says."""
        return f"Call({self.method} {self.path}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the record keeps of a call that succeeded."""

    response: Any
    finish_reason: str | None
    usage: Usage

    def __repr__(self) -> str:
        """Show how it ended, never what it says."""
        return f"Answer(finish_reason={self.finish_reason!r})"


class Fold(Protocol):
    """Collects the frames of one streamed answer."""

    @property
    def complete(self) -> bool:
        """Whether the finish frame was seen. Only then is there an answer."""

    def add(self, frame: bytes) -> bool:
        """Take the next frame; tell whether it is to be published.

        AttemptFailed for an error inside the stream, and for a frame that is no JSON or has not
        the protocol's shape.
        """

    def answer(self) -> Answer:
        """Return the answer as the non-streaming call would have; only when complete."""

    def partial_usage(self) -> Usage:
        """Return what is known of the tokens of a stream that was cut."""


class ProtocolModule(Protocol):
    """The shape of ``worker.protocols.openai`` and its siblings."""

    NAME: ProtocolName

    def build(self, task: Task, body: bytes, *, include_usage: bool) -> Call:
        """Return what to send. ``body`` is the request's JSON, passed on as it is.

        AttemptFailed (invalid_request) where the task asks for what the protocol cannot do.
        """

    def decoder(self, content_type: str) -> Decoder:
        """Return a decoder for a stream of this content type."""

    def fold(self, call: Call) -> Fold:
        """Return an empty fold for the answer to this call."""

    def read(self, response: Any) -> Answer:
        """Read an answer that came whole; AttemptFailed where it is none, or is an error."""

    def refuse(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Failure:
        """Read an answer whose status is no success.

        ``headers`` by lower-case name; ``now`` in unix seconds, for a delay given as a date.
        """
