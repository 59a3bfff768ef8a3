"""How a task is to be run: everything that is not for the router."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from api_contracts.names import Queue

#: Longest stay of a result, in seconds: 30 days. Redis is no archive.
RESULT_TTL_MAX = 30 * 86_400
#: Longest JSON of ``metadata``, in characters: it is echoed in every ending.
METADATA_LIMIT = 16_384
#: Dates before this are seconds written for milliseconds, in unix ms (2001-09-09).
EARLIEST_MS = 1_000_000_000_000


def _unix_ms(value: object) -> object:
    """Let Python callers give an aware datetime where the contract says unix milliseconds."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            message = "a datetime needs a time zone"
            raise ValueError(message)
        return int(value.timestamp() * 1000)
    return value


#: A moment as unix time in milliseconds.
UnixMs = Annotated[int, BeforeValidator(_unix_ms), Field(ge=EARLIEST_MS, strict=True)]
#: Words that become part of a Redis key.
KeyWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class RetryPolicy(BaseModel):
    """Exponential back-off with full jitter: the n-th delay is uniform in 0 … base · factor^n.

    Source of the rule: "Exponential Backoff And Jitter", AWS Architecture Blog (2015).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    base_s: Annotated[float, Field(ge=0, le=3600, strict=False)] = 1.0
    factor: Annotated[float, Field(ge=1, le=10, strict=False)] = 2.0
    cap_s: Annotated[float, Field(ge=0, le=3600, strict=False)] = 60.0

    def ceiling_s(self, failures: int) -> float:
        """Return the longest back-off after that many failed calls (1 or more), in seconds.

        The exponent is bounded before the power is taken, since ``2.0 ** 1100`` overflows.
        """
        growth = self.factor ** min(failures - 1, 64)
        return min(self.cap_s, self.base_s * growth)


class Options(BaseModel):
    """What a producer may say about one task. Every field has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stream: bool | None = Field(
        default=None,
        description="Stream the answer. Unset: as the request itself says.",
    )
    tenant: KeyWord = Field(default="default", description="Owner of the idempotency key.")
    idempotency_key: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")] | None = Field(
        default=None,
        description="The same key with the same content gives the same task back.",
    )
    priority: Literal["interactive", "batch"] = Field(
        default="interactive", description="Which queue the task waits in."
    )
    expires_at: UnixMs | None = Field(
        default=None, description="Start-by: not started then, the task is `expired`."
    )
    deadline: UnixMs | None = Field(
        default=None, description="Finish-by: no attempt runs past it and no retry is made."
    )
    retry: RetryPolicy | None = Field(
        default=None, description="Instead of the worker's retry policy."
    )
    on_interrupt: Literal["restart", "fail"] = Field(
        default="restart", description="What becomes of a call that its worker could not finish."
    )
    result_ttl: Annotated[int, Field(ge=1, le=RESULT_TTL_MAX)] = Field(
        default=86_400, description="How long record and log stay after the ending, in seconds."
    )
    metadata: dict[str, JsonValue] = Field(
        default_factory=dict, description="Echoed in the result; never read."
    )

    @property
    def queue(self) -> Queue:
        """The queue that this priority means."""
        return Queue.BATCH if self.priority == "batch" else Queue.INTERACTIVE

    @model_validator(mode="after")
    def _check(self) -> Options:
        if len(str(self.metadata)) > METADATA_LIMIT:
            message = f"metadata is over {METADATA_LIMIT} characters"
            raise ValueError(message)
        return self
