"""How a task is to be run: everything that is not for the router."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from api_contracts import jsontext
from api_contracts.errors import InvalidTask, nameable
from api_contracts.names import Queue

#: Longest stay of a result, in seconds: 30 days. Redis is no archive.
RESULT_TTL_MAX = 30 * 86_400
#: Longest JSON of ``metadata``, in bytes: it is echoed in every result.
METADATA_LIMIT = 16_384
#: Longest ``tracestate``, in characters: as many as W3C asks everybody to carry.
TRACESTATE_LIMIT = 512
#: Dates before this are seconds written for milliseconds, in unix ms (2001-09-09).
EARLIEST_MS = 1_000_000_000_000
#: The last millisecond of the year 9999, in unix ms; scripts count exactly up to 2^53.
LATEST_MS = 253_402_300_799_999
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Version, trace, span and flags.
_TRACEPARENT: Final = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
#: An id of zeros stands for none.
_NO_ID: Final = r"-(0{16}|0{32})-"
#: A part of ``tracestate``. SDKs may log one that is none.
_MEMBER: Final = (
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})="
    r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_TRACESTATE: Final = rf"({_MEMBER}(,[ \t]*{_MEMBER})*)?"


def _unix_ms(value: object) -> object:
    """Let Python callers give an aware datetime where the contract says unix milliseconds."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            message = "a datetime needs a time zone"
            raise ValueError(message)
        return (value - _EPOCH) // timedelta(milliseconds=1)
    return value


def _check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    jsontext.check(metadata)
    if len(jsontext.write(metadata)) > METADATA_LIMIT:
        message = f"has more than {METADATA_LIMIT} bytes of JSON"
        raise ValueError(message)
    return metadata


def _check_traceparent(traceparent: str) -> str:
    if re.search(_NO_ID, traceparent):
        message = "must not have an id of zeros, which stands for none"
        raise ValueError(message)
    return traceparent


def _check_tracestate(tracestate: str) -> str:
    if not re.fullmatch(_TRACESTATE, tracestate):
        message = "must be key=value, or some of them with commas between"
        raise ValueError(message)
    return tracestate


#: A moment as unix time in milliseconds.
UnixMs = Annotated[int, Field(ge=EARLIEST_MS, le=LATEST_MS, strict=True), BeforeValidator(_unix_ms)]
#: Words that become part of a Redis key.
KeyWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
#: Name of a file that holds a key. Without a dot it leads nowhere else, and is none of those that
#: Kubernetes keeps beside the files of a secret.
CREDENTIAL_NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,31}$"


class Closed(BaseModel):
    """A part of a task: it never changes, and a field that nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_first_unknown(cls, value: object) -> object:
        """Stop at one unknown field where there must be some: pydantic would list a million."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields):
            unknown = next(name for name in value if name not in cls.model_fields)
            raise InvalidTask(nameable(unknown), "is not a field of a task")
        return value


class RetryPolicy(Closed):
    """Exponential back-off with full jitter: the n-th delay is uniform in 0 … base · factor^n.

    Source of the rule: "Exponential Backoff And Jitter", AWS Architecture Blog (2015).
    """

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    base_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 1.0
    factor: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = 2.0
    cap_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 60.0

    def ceiling_s(self, failures: int) -> float:
        """Return the longest back-off after that many failed calls (1 or more), in seconds.

        The exponent is bounded before the power is taken, since ``2.0 ** 1100`` overflows.
        """
        growth = self.factor ** min(failures - 1, 64)
        return min(self.cap_s, self.base_s * growth)


class Trace(Closed):
    """Where in a trace a task was enqueued: two headers of W3C's Trace Context.

    OpenTelemetry's propagators write a mapping of this form. Whoever enqueues a task again with
    the same id or idempotency key may say another: the first one stands.
    """

    traceparent: Annotated[
        str,
        Field(pattern=_TRACEPARENT, json_schema_extra={"not": {"pattern": _NO_ID}}),
        AfterValidator(_check_traceparent),
    ] = Field(description="Version 00, the trace's id, the span's id, and the flags.")
    tracestate: Annotated[
        str,
        Field(max_length=TRACESTATE_LIMIT, json_schema_extra={"pattern": f"^{_TRACESTATE}$"}),
        AfterValidator(_check_tracestate),
    ] = Field(default="", description="What tracing systems add for themselves.")


class Options(Closed):
    """What a producer may say about one task. Every field has a default."""

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
    credential: Annotated[str, Field(pattern=CREDENTIAL_NAME)] | None = Field(
        default=None,
        description="Name of one of the workers' keys, which the router is called with; unset: "
        "their own. Never a key itself.",
    )
    result_ttl: Annotated[int, Field(ge=1, le=RESULT_TTL_MAX)] = Field(
        default=86_400, description="How long record and log stay after the ending, in seconds."
    )
    metadata: Annotated[dict[str, Any], AfterValidator(_check_metadata)] = Field(
        default_factory=dict,
        description=f"Echoed in the result; never read. At most {METADATA_LIMIT} bytes of JSON.",
        repr=False,
    )
    trace: Trace | None = Field(
        default=None, description="Where the task's spans belong; unset, to a trace of its own."
    )

    @property
    def queue(self) -> Queue:
        """The queue that this priority means."""
        return Queue.BATCH if self.priority == "batch" else Queue.INTERACTIVE
