"""One attempt on its way through the executor: what is known of it so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from api_contracts.errors import ErrorCode
from api_contracts.events import EventId
from api_contracts.options import Options, RetryPolicy
from api_contracts.requests import Task
from worker.claim import Claim
from worker.logs import Fields
from worker.outcome import Answered, End, Unanswered
from worker.protocols.base import Call, ProtocolName
from worker.telemetry import OTHER
from worker.writer import Writer


class Span(Protocol):
    """An attempt in its task's trace, where it is traced."""

    def calling(self, call: Call, protocol: ProtocolName) -> Call:
        """Note that its call begins; return the call with its place in the trace."""

    def called(self, outcome: Answered | Unanswered) -> None:
        """Note what its call came to."""

    def end(self, outcome: str, code: ErrorCode | None) -> None:
        """Note what it came to itself, and with which error; nothing follows."""


@dataclass(slots=True)
class Job:
    """A claim, its writer, and from the second step on its task."""

    claim: Claim
    writer: Writer
    #: Key of the task's record.
    record: str
    task: Task | None = None
    protocol: ProtocolName = "plain"
    span: Span | None = None
    began: float = field(default_factory=time.monotonic)

    def __repr__(self) -> str:
        """Show which attempt of which task, never what it says."""
        return f"attempt {self.claim.attempt} of task {self.claim.task_id}"

    __str__ = __repr__

    @property
    def seconds(self) -> float:
        """How long ago the claim was."""
        return time.monotonic() - self.began

    @property
    def now_ms(self) -> int:
        """Unix time in ms by the clock of Redis, which all workers share."""
        return self.claim.now + int(self.seconds * 1000)

    @property
    def next_event_id(self) -> str:
        """The id of the event behind the last chunk."""
        return str(EventId(self.claim.attempt, self.writer.seq + 1))

    @property
    def end(self) -> End:
        """Its end, if that is now."""
        limit = self.writer.box.event_limit
        return End(self.claim, self.next_event_id, self.now_ms, self.record, limit)

    @property
    def kind(self) -> str:
        """The kind of task; ``other`` where it could not be read."""
        return self.task.kind if self.task else OTHER

    @property
    def vendor(self) -> str:
        """Whom the task asked for; empty where it could not be read."""
        return self.task.vendor if self.task else ""

    @property
    def model(self) -> str | None:
        """The model that it asked for, if it named one."""
        return self.task.model if self.task else None

    @property
    def named(self) -> Fields:
        """What a log line calls it."""
        return {
            "task_id": self.claim.task_id,
            "attempt": self.claim.attempt,
            "kind": self.kind,
            "vendor": self.vendor,
            "model": self.model,
        }

    def end_span(self, outcome: str, code: ErrorCode | None = None) -> None:
        """Note in its trace what it came to, where it is traced."""
        if self.span is not None:
            self.span.end(outcome, code)

    @property
    def streaming(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.task is not None and self.task.streaming

    @property
    def result_ttl_s(self) -> int:
        """How long record and log stay after the ending, in seconds."""
        return (self.task.options if self.task else Options()).result_ttl

    def retry_policy(self, default: RetryPolicy) -> RetryPolicy:
        """Return the worker's policy, with what the task says otherwise."""
        own = self.task.options.retry if self.task else None
        return default.model_copy(update=own.model_dump(exclude_unset=True)) if own else default
