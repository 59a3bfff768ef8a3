"""Every other JSON call under the router: embeddings, video tasks, counting tokens.

Answers come whole and are kept as they are; of their meaning only ``usage`` is read. They are
never streamed, since nobody could tell where such a stream is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_contracts.errors import ErrorCode
from api_contracts.requests import Task
from api_contracts.results import Usage
from worker.errors import AttemptFailed, Failure
from worker.protocols.base import Answer, Call, ProtocolName
from worker.protocols.refusal import raise_error, refuse
from worker.protocols.requests import headers_of
from worker.sse import decoder
from worker.usage import UNAVAILABLE, reported

__all__ = ["NAME", "build", "decoder", "fold", "read", "refuse"]

NAME: ProtocolName = "plain"

#: An answer with no other field is an error under a status that says success.
_ERROR_FIELDS = frozenset({"error", "type", "request_id"})
_NEVER_STREAMED = (
    "options.stream: only chat completions, /v1/messages and Gemini's generateContent can be "
    "streamed; send this call without `stream`"
)


def build(task: Task, body: bytes, *, include_usage: bool) -> Call:  # noqa: ARG001 - the shape
    """Return the call; AttemptFailed (invalid_request) where it is to be streamed."""
    if task.kind != "native" or task.streaming:
        raise AttemptFailed(Failure(ErrorCode.INVALID_REQUEST, _NEVER_STREAMED))
    headers = headers_of(task, native_vendor="auto", sse=False)
    if task.method == "GET":
        del headers["content-type"]
        body = b""
    return Call(task.method, task.path, headers, body, stream=False)


def fold(call: Call) -> NoFold:  # noqa: ARG001 - the shape
    """Return what stands for a fold where nothing is streamed."""
    return NoFold()


def read(response: Any) -> Answer:
    """Take any JSON for an answer, unless it is nothing but an error.

    A video task that has failed is reported with its ``error``, and that report is the answer.
    """
    usage = None
    if isinstance(response, dict):
        if response.keys() <= _ERROR_FIELDS:
            raise_error(response)
        usage = response.get("usage")
    return Answer(response, None, _usage(usage if isinstance(usage, dict) else {}))


class NoFold:
    """The fold of a call that is not streamed: it is never complete, and takes no frame."""

    complete = False

    def add(self, frame: bytes) -> bool:  # noqa: ARG002 - the shape
        """Raise AttemptFailed."""
        raise AttemptFailed(Failure(ErrorCode.INVALID_REQUEST, _NEVER_STREAMED))

    def answer(self) -> Answer:
        """Raise AttemptFailed."""
        raise AttemptFailed(Failure(ErrorCode.INVALID_REQUEST, _NEVER_STREAMED))

    def partial_usage(self) -> Usage:
        """Return that nothing is known."""
        return UNAVAILABLE


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Read a usage in either of the two namings that are common."""
    return reported(
        input_tokens=usage.get("prompt_tokens", usage.get("input_tokens")),
        output_tokens=usage.get("completion_tokens", usage.get("output_tokens")),
        total_tokens=usage.get("total_tokens"),
    )
