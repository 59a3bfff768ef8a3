"""Errors as providers word them, inside a stream or as an answer that is no success.

    {"error": {"message", "type", "code", "param"}}                     OpenAI and most gateways
    {"type": "error", "error": {"type", "message"}, "request_id"}       Anthropic
    {"error": {"code", "status", "message", "details"}}, or [that]      Google
    {"message"} · {"detail"} · {"error": "text"}                        proxies, AWS, FastAPI

The router forwards whatever the provider said, so a chat call may be answered in any of them:
one reader serves all protocols. An error under HTTP 200 has no status but stands for one, by its
number or by its word; the status then decides, as it does for an honest answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from api_contracts.errors import ErrorCode
from worker.delays import asked_s, retry_info_s
from worker.errors import AttemptFailed, Failure, code_of_status
from worker.frames import parse

#: The status that a provider's word stands for, from the providers' error tables.
_STATUSES: Final[Mapping[str, int]] = {
    # Anthropic
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # OpenAI, Azure and gateways that speak like it
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "insufficient_permissions": 403,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "too_many_requests": 429,
    "requests": 429,
    "tokens": 429,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "bad_gateway": 502,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "engine_overloaded": 503,
    "server_overloaded": 503,
    "overloaded": 503,
    "timeout": 504,
    "gateway_timeout": 504,
    # google.rpc.Code
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "already_exists": 409,
    "aborted": 409,
    "resource_exhausted": 429,
    "cancelled": 499,
    "unknown": 500,
    "internal": 500,
    "data_loss": 500,
    "unimplemented": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
}

#: Words that say that the content was declined, whatever the status.
_REFUSALS: Final = frozenset({
    "content_filter", "content_policy_violation", "moderation_blocked",
    "responsibleaipolicyviolation", "inputtextsensitivecontentdetected",
    "inputimagesensitivecontentdetected",
})  # fmt: skip

#: Where an answer names the call for the provider's support; the router's own first.
_REQUEST_IDS: Final = (
    "x-request-id", "request-id", "x-goog-request-id", "x-amzn-requestid", "apim-request-id",
)  # fmt: skip

_FIRST_ERROR: Final = 400
_AFTER_ERRORS: Final = 600
#: Longest plain text that is taken for a proxy's message, in bytes; a page of text is none.
_TEXT_LIMIT: Final = 500


def raise_error(answer: Mapping[str, Any]) -> None:
    """Raise AttemptFailed where an answer or a frame under HTTP 200 reports an error."""
    error = answer.get("error")
    if not error and answer.get("type") != "error":
        return
    error = error if isinstance(error, dict) else {"message": error}
    words = [*_words(error)]
    status = next((found for found in map(_status_of, words) if found), None)
    request_id = answer.get("request_id")
    raise AttemptFailed(
        Failure(
            _code(words, status),
            message=_message(error) or "the router reported an error inside its answer",
            status=status,
            provider_code=_name(words),
            request_id=request_id if isinstance(request_id, str) else None,
            asked_s=retry_info_s(error),
        )
    )


def refuse(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Failure:
    """Read an answer whose status is no success.

    ``headers`` by lower-case name; ``now`` in unix seconds, for a delay given as a date. A body
    that is no provider's error (a proxy's HTML page) is not repeated.
    """
    answer = _answer(body)
    error = answer.get("error", answer)
    error = error if isinstance(error, dict) else {"message": error}
    words = [*_words(error)]
    inside = answer.get("request_id")
    return Failure(
        _code(words, status),
        message=_message(error) or _plain_text(headers, body) or f"HTTP {status} from the router",
        status=status,
        provider_code=_name(words),
        request_id=request_id_of(headers) or (inside if isinstance(inside, str) else None),
        asked_s=asked_s(headers, error, now),
        should_retry={"true": True, "false": False}.get(
            headers.get("x-should-retry", "").strip().lower()
        ),
    )


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of a call, for the router's support; ``headers`` by lower-case name."""
    return next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)


def _answer(body: bytes) -> Mapping[str, Any]:
    """Return the body's JSON object; Gemini's array stream wraps even its errors in a list."""
    try:
        answer = parse(body)
    except AttemptFailed:
        return {}
    if isinstance(answer, list) and answer:
        answer = answer[0]
    return answer if isinstance(answer, dict) else {}


def _words(error: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an error calls itself, the most telling first; numbers as text."""
    inner = error.get("innererror")
    for holder in (error, inner if isinstance(inner, dict) else {}):
        for name in ("code", "status", "type"):
            word = holder.get(name)
            if isinstance(word, (str, int)) and not isinstance(word, bool) and word != "":
                yield str(word)


def _status_of(word: str) -> int | None:
    """Return the status that a word or a number stands for. Other numbers are a provider's own."""
    if word.isascii() and word.isdecimal():
        number = int(word) if len(word) == len(str(_FIRST_ERROR)) else 0
        return number if _FIRST_ERROR <= number < _AFTER_ERRORS else None
    return _STATUSES.get(word.lower())


def _code(words: list[str], status: int | None) -> ErrorCode:
    if any(word.lower() in _REFUSALS for word in words):
        return ErrorCode.REFUSED
    return ErrorCode.UPSTREAM_ERROR if status is None else code_of_status(status)


def _name(words: list[str]) -> str | None:
    """Choose what to show as the provider's code: a word, rather than a repeated status."""
    return next((word for word in words if not word.isdecimal()), words[0] if words else None)


def _message(error: Mapping[str, Any]) -> str:
    told = (error.get("message"), error.get("detail"))
    return next((text for text in told if isinstance(text, str) and text), "")


def _plain_text(headers: Mapping[str, str], body: bytes) -> str:
    """Return a short plain text, as proxies send it; nothing of markup or other bytes."""
    if not headers.get("content-type", "").lower().startswith("text/plain"):
        return ""
    text = body[: _TEXT_LIMIT + 1].decode("utf-8", "replace").strip()
    return text if len(body) <= _TEXT_LIMIT and "<" not in text and text.isprintable() else ""
