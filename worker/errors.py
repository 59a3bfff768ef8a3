"""Why an attempt failed, as the worker handles it inside.

    status of an answer ──> code_of_status ──┐
    error in a stream   ──> its status ──────┼─> Failure ──> retry.decide ──> Retry | GiveUp
    httpx exception     ──> router.FAILURES ─┘

A :class:`Failure` is a value; :class:`AttemptFailed` carries it up to the one place that decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from api_contracts.errors import MEANINGS, MESSAGE_LIMIT, ErrorCode, TaskError

#: Worth another attempt: the same request may succeed at another moment.
RETRYABLE: Final = frozenset({
    ErrorCode.CONFLICT, ErrorCode.RATE_LIMITED, ErrorCode.OVERLOADED, ErrorCode.UPSTREAM_ERROR,
    ErrorCode.CONNECTION, ErrorCode.TIMEOUT, ErrorCode.TRUNCATED, ErrorCode.MALFORMED,
    ErrorCode.STORE,
})  # fmt: skip

#: Statuses with a meaning of their own; every other 4xx is `rejected`, 5xx `upstream_error`.
_STATUS_CODES: Final = {
    401: ErrorCode.AUTHENTICATION,
    402: ErrorCode.PAYMENT_REQUIRED,
    403: ErrorCode.AUTHENTICATION,
    408: ErrorCode.TIMEOUT,
    409: ErrorCode.CONFLICT,
    425: ErrorCode.CONFLICT,
    429: ErrorCode.RATE_LIMITED,
    503: ErrorCode.OVERLOADED,
    504: ErrorCode.TIMEOUT,
    529: ErrorCode.OVERLOADED,
}
_SERVER_ERRORS: Final = 500


def code_of_status(status: int) -> ErrorCode:
    """Name an HTTP status that is no success. A redirect is not followed: it is `rejected`."""
    default = ErrorCode.UPSTREAM_ERROR if status >= _SERVER_ERRORS else ErrorCode.REJECTED
    return _STATUS_CODES.get(status, default)


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Cut a text to that many bytes of UTF-8, between characters."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with one call.

    ``asked_s`` is the delay that the answer asked for, in seconds; ``should_retry`` the word of
    ``x-should-retry``, which wins over the code.
    """

    code: ErrorCode
    message: str = ""
    status: int | None = None
    provider_code: str | None = None
    request_id: str | None = None
    asked_s: float | None = None
    should_retry: bool | None = None

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help."""
        if self.should_retry is not None:
            return self.should_retry
        return self.code in RETRYABLE

    def task_error(self, attempts: int) -> TaskError:
        """Write it as events and records have it; ``attempts`` counts the calls made."""
        return TaskError(
            code=self.code,
            message=clip(self.message or MEANINGS[self.code]),
            retryable=self.retryable,
            status=self.status,
            provider_code=clip(self.provider_code, 128) if self.provider_code else None,
            request_id=clip(self.request_id, 128) if self.request_id else None,
            attempts=attempts,
        )


class AttemptFailed(Exception):
    """An attempt ended without an answer; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        """Keep the failure; the text is for a log."""
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure
