"""What remains of a task when it has ended, and what can be asked of it before."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api_contracts.errors import ErrorCode, TaskError
from api_contracts.names import State

Count = Annotated[int, Field(ge=0)]
Milliseconds = Annotated[int, Field(ge=0)]


class _Read(BaseModel):
    """Read by programs that may be older than the writer: unknown fields are let through."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Usage(_Read):
    """Tokens of one or more calls. What nobody reported is null, never a false 0."""

    provenance: Literal["reported", "estimated", "unavailable"] = Field(
        description="Reported by the provider; estimated by us from the text of a call that was "
        "cut (4 characters a token); or unavailable. Of several calls: the weakest."
    )
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    cached_tokens: Count | None = Field(default=None, description="Part of the input.")
    reasoning_tokens: Count | None = Field(default=None, description="Part of the output.")


class Attempt(_Read):
    """One call to the router, as it went."""

    attempt: Annotated[int, Field(ge=1)]
    worker: str
    outcome: ErrorCode | Literal["completed"]
    status: int | None = None
    request_id: str | None = None
    usage: Usage


class Timings(_Read):
    """How long it took, in milliseconds."""

    queued_ms: Milliseconds = Field(description="From enqueue to the first claim.")
    first_chunk_ms: Milliseconds | None = Field(
        description="From the last attempt's call to its first chunk; null where not streamed."
    )
    total_ms: Milliseconds = Field(description="From enqueue to the ending.")


class Result(_Read):
    """The answer: as the non-streaming call would have returned it, whichever way it came."""

    task_id: str
    kind: Literal["chat", "vision", "native"]
    protocol: Literal["openai", "anthropic", "gemini", "plain"]
    response: Any = Field(
        description="The router's answer; folded from the chunks if streamed.", repr=False
    )
    finish_reason: str | None = Field(description="In the provider's own word.")
    usage: Usage = Field(description="Of all attempts together.")
    timings: Timings
    attempts: tuple[Attempt, ...]
    request_id: str | None = Field(description="The router's id of the call that succeeded.")
    metadata: dict[str, Any] = Field(default_factory=dict, repr=False)


class Status(_Read):
    """What the record says of a task now."""

    id: str
    kind: Literal["chat", "vision", "native"] | None = None
    state: State
    attempt: Count = Field(description="Number of the last claim; 0 before the first.")
    failures: Count = Field(description="Failed calls, which count against the retry policy.")
    replays: Count = Field(default=0, description="How often it was queued again after failing.")
    created_at: int
    claimed_at: int | None = None
    due_at: int | None = Field(default=None, description="When the next attempt is due.")
    ended_at: int | None = None
    worker: str | None = None
    error: TaskError | None = None


class DeadLetter(_Read):
    """A task that failed where an operator may want to replay it, or a message that was none.

    Anybody may have written it: what cannot be read counts as not said. Its body is not here.
    """

    id: str
    kind: str = Field(description="`chat`, `vision`, `native`; `message` for what was no task.")
    queue: str = Field(description="The Celery queue that it came from.")
    error: TaskError | None
    attempt: Count = Field(description="Number of the last claim; 0 before the first.")
    deaths: Count = Field(description="Workers that died while they ran it.")
    replays: Count = Field(description="How often it was queued again after failing.")
    created_at: int = Field(description="Unix time in milliseconds.")
    ended_at: int = Field(description="When it died, unix time in milliseconds.")
    attempts: tuple[Attempt, ...] = Field(description="Every call that was made for it.")
    size: Count = Field(description="Bytes kept of its request, or of the message.")
