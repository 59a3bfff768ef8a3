"""What an attempt came to, and what follows from it: pure, decided once, then obeyed once.

Answered | Unanswered ──> settle ──> Settlement: event, state, fields, next attempt
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from api_contracts.errors import ErrorCode
from api_contracts.events import EVENT_LIMIT, Completed, Failed, Retrying
from api_contracts.names import State
from api_contracts.options import RetryPolicy
from api_contracts.requests import Task
from api_contracts.results import Attempt, Result, Timings, Usage
from worker.claim import Claim
from worker.errors import RETRYABLE, Failure
from worker.protocols.base import Answer, ProtocolName
from worker.retry import GiveUp, Reason, Retry, decide
from worker.usage import UNAVAILABLE, added

#: Failures of which a task is a dead letter: another moment, another key or a payment may mend
#: them. What the contract, a provider's refusal or a deadline ended would only end so again.
REPLAYABLE: Final = RETRYABLE | {
    ErrorCode.AUTHENTICATION, ErrorCode.PAYMENT_REQUIRED, ErrorCode.INTERRUPTED,
    ErrorCode.POISON, ErrorCode.NO_KEY, ErrorCode.INTERNAL,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answered:
    """The whole answer came."""

    answer: Answer
    protocol: ProtocolName
    status: int
    request_id: str | None
    first_chunk_ms: int | None

    @property
    def usage(self) -> Usage:
        """The call's tokens."""
        return self.answer.usage


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The attempt failed; ``usage`` is what is known of its tokens."""

    failure: Failure
    usage: Usage = UNAVAILABLE
    sent: bool = True

    @property
    def status(self) -> int | None:
        """The HTTP status, where an answer came at all."""
        return self.failure.status

    @property
    def request_id(self) -> str | None:
        """The router's id of the call, where an answer had one."""
        return self.failure.request_id


@dataclass(frozen=True, slots=True)
class End:
    """The end of an attempt: the id of its event, when (unix ms), and the task's record.

    ``event_limit`` is the largest event that may carry a result, in bytes.
    """

    claim: Claim
    event_id: str
    now: int
    record: str
    event_limit: int = EVENT_LIMIT


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to write at the end of an attempt, and when another follows, if one does.

    A hand-back has no event: the next ``started`` tells it.
    """

    event: bytes
    state: State
    fields: Mapping[str, str | int | bytes]
    decision: Retry | GiveUp | None = None
    retry_at: int | None = None
    #: Of the answer to the call, where one came.
    status: int | None = None
    request_id: str | None = None

    @property
    def dead(self) -> bool:
        """Whether an operator may want to replay the task: what failed it may be mended."""
        return (
            isinstance(self.decision, GiveUp)
            and self.decision.reason is not Reason.DEADLINE
            and self.decision.failure.code in REPLAYABLE
        )


def settle(
    task: Task,
    end: End,
    outcome: Answered | Unanswered,
    policy: RetryPolicy,
    jitter: Callable[[float], float],
) -> Settlement:
    """Decide what an attempt's outcome means for its task."""
    if isinstance(outcome, Answered):
        return _completed(task, end, outcome)
    decision = decide(
        outcome.failure,
        failures=end.claim.failures + 1,
        policy=policy,
        now_ms=end.now,
        deadline_ms=task.options.deadline,
        jitter=jitter,
    )
    if isinstance(decision, Retry):
        return _retrying(end, outcome, decision)
    return failed(end, outcome, decision)


def failed(end: End, outcome: Unanswered, decision: GiveUp) -> Settlement:
    """End a task with an error."""
    claim = end.claim
    error = decision.failure.task_error(_calls(claim, outcome))
    ending = Failed(id=end.event_id, task_id=claim.task_id, at=end.now, error=error)
    attempt = _attempt(claim, outcome)
    fields: dict[str, str | int | bytes] = {
        "ended_at": end.now,
        "failures": claim.failures + 1,
        "error": error.model_dump_json(exclude_none=True),
    }
    event = ending.model_dump_json(exclude_none=True).encode()
    fields |= _history(attempt)
    return Settlement(
        event, State.FAILED, fields, decision,
        status=outcome.status, request_id=outcome.request_id,
    )  # fmt: skip


def hand_back(end: End, outcome: Unanswered) -> Settlement:
    """Leave a task to another worker, at no cost: its call did not fail."""
    fields: dict[str, str | int | bytes] = {"due_at": end.now, "rung_at": end.now}
    fields |= _history(_attempt(end.claim, outcome))
    return Settlement(
        b"", State.QUEUED, fields, retry_at=end.now,
        status=outcome.status, request_id=outcome.request_id,
    )  # fmt: skip


def _retrying(end: End, outcome: Unanswered, retry: Retry) -> Settlement:
    claim = end.claim
    error = retry.failure.task_error(_calls(claim, outcome))
    next_at = end.now + retry.delay_ms
    notice = Retrying(
        id=end.event_id, task_id=claim.task_id, at=end.now, error=error,
        delay_ms=retry.delay_ms, next_at=next_at,
    )  # fmt: skip
    attempt = _attempt(claim, outcome)
    fields: dict[str, str | int | bytes] = {
        "due_at": next_at,
        # The timer will ring then; where it does not, the reaper sees that nobody heard it.
        "rung_at": next_at,
        "failures": claim.failures + 1,
        "error": error.model_dump_json(exclude_none=True),
    }
    event = notice.model_dump_json(exclude_none=True).encode()
    fields |= _history(attempt)
    return Settlement(
        event, State.RETRYING, fields, retry, next_at,
        status=outcome.status, request_id=outcome.request_id,
    )  # fmt: skip


def _completed(task: Task, end: End, outcome: Answered) -> Settlement:
    claim = end.claim
    attempt = Attempt(
        attempt=claim.attempt,
        worker=claim.worker,
        outcome="completed",
        status=outcome.status,
        request_id=outcome.request_id,
        usage=outcome.usage,
    )
    attempts = (*claim.history, attempt)
    result = Result(
        task_id=claim.task_id,
        kind=task.kind,
        protocol=outcome.protocol,
        response=outcome.answer.response,
        finish_reason=outcome.answer.finish_reason,
        usage=added(_paid(attempts)),
        timings=Timings(
            queued_ms=max(0, claim.claimed_at - claim.created_at),
            first_chunk_ms=outcome.first_chunk_ms,
            total_ms=max(0, end.now - claim.created_at),
        ),
        attempts=attempts,
        request_id=outcome.request_id,
        metadata=task.options.metadata,
    )
    text = result.model_dump_json().encode()
    fields: dict[str, str | int | bytes] = {"ended_at": end.now, "result": text}
    event = _completion(result, text, end)
    fields |= _history(attempt)
    return Settlement(
        event, State.COMPLETED, fields, status=outcome.status, request_id=outcome.request_id
    )


def _paid(attempts: Iterable[Attempt]) -> Iterator[Usage]:
    """Yield the usage of the calls that may have cost tokens.

    The router charges nothing for a call that brought none (its guide, "Billing"): a refused
    call is no unknown.
    """
    for one in attempts:
        if one.outcome == "completed" or one.usage.provenance != "unavailable":
            yield one.usage


def _completion(result: Result, text: bytes, end: End) -> bytes:
    """Write the ending around the result, or without it where an event could not carry it."""
    ending = Completed(
        id=end.event_id,
        task_id=result.task_id,
        at=end.now,
        finish_reason=result.finish_reason,
        usage=result.usage,
        timings=result.timings,
    )
    head = ending.model_dump_json(exclude={"result", "result_key"}).encode()
    whole = b'%b,"result":%b}' % (head[:-1], text)
    if len(whole) <= end.event_limit:
        return whole
    short = ending.model_copy(update={"result_key": end.record})
    return short.model_dump_json(exclude={"result"}).encode()


def _calls(claim: Claim, outcome: Unanswered) -> int:
    return len(claim.history) + outcome.sent


def _attempt(claim: Claim, outcome: Unanswered) -> Attempt | None:
    if not outcome.sent:
        return None
    return Attempt(
        attempt=claim.attempt,
        worker=claim.worker,
        outcome=outcome.failure.code,
        status=outcome.status,
        request_id=outcome.failure.request_id,
        usage=outcome.usage,
    )


def _history(attempt: Attempt | None) -> dict[str, str | int | bytes]:
    if attempt is None:
        return {}
    return {f"attempt:{attempt.attempt}": attempt.model_dump_json(exclude_none=True)}
