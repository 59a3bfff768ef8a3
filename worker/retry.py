"""Whether another call is made after a failed one, and when. Nothing here waits.

1. A failure that no repetition mends ends the task. The answer's own word (``x-should-retry``)
   wins over our reading of its code, both ways.
2. So do ``policy.max_attempts`` failed calls. Nobody's word wins over that.
3. The delay is what the answer asked for, and a full jitter on top: never earlier than asked,
   and a herd that was sent away together does not come back together.
4. Asked for more than the deadline leaves: the task ends now, not after a wait in vain. The jitter
   is our own wish, so it is drawn within what is left instead.

Source of the jitter: "Exponential Backoff And Jitter", AWS Architecture Blog (2015).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from api_contracts.errors import MEANINGS, MESSAGE_LIMIT
from api_contracts.options import RetryPolicy
from worker.errors import Failure, clip

#: Time kept for the call itself before the deadline, in ms: no model answers faster, so a retry
#: that has less would only be cut.
SHORTEST_CALL_MS: Final = 100
#: Longest delay that an answer may ask for, in seconds. The longest quota is per day; more is
#: a mistake upstream, and would leave the task lying in Redis for months.
LONGEST_DELAY_S: Final = 86_400


class Reason(StrEnum):
    """Why no further call is made."""

    NOT_RETRYABLE = "not_retryable"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Retry:
    """Call again, ``delay_ms`` from now."""

    failure: Failure
    delay_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make no further call.

    ``failure`` keeps the code of the last call, which tells more than `deadline` would; where it
    could have been retried, its message ends with why it was not.
    """

    failure: Failure
    reason: Reason


def full_jitter(ceiling_s: float) -> float:
    """Draw a delay between 0 and the ceiling, in seconds, each equally likely."""
    return random.uniform(0.0, ceiling_s)  # nosec B311 # noqa: S311 - spreads load, keeps no secret


def decide(  # noqa: PLR0913 - two moments, so that no caller subtracts them the wrong way
    failure: Failure,
    *,
    failures: int,
    policy: RetryPolicy,
    now_ms: int,
    deadline_ms: int | None,
    jitter: Callable[[float], float] = full_jitter,
) -> Retry | GiveUp:
    """Decide what follows a failed call.

    ``failures`` counts the failed calls of the task, this one included. Moments are unix time in
    ms. ``jitter`` is given a ceiling in seconds and draws from 0 up to it.
    """
    if not failure.retryable:
        return GiveUp(failure, Reason.NOT_RETRYABLE)
    if failures >= policy.max_attempts:
        text = f"no retry: {failures} of {policy.max_attempts} calls failed"
        return GiveUp(_explained(failure, text), Reason.ATTEMPTS_EXHAUSTED)
    asked_s = max(0.0, failure.asked_s or 0.0)
    left_s = _left_s(now_ms, deadline_ms)
    if asked_s > left_s:
        return GiveUp(_explained(failure, _too_long(asked_s, left_s)), Reason.DEADLINE)
    spread_s = jitter(min(policy.ceiling_s(failures), left_s - asked_s))
    return Retry(failure, math.ceil(asked_s * 1000) + int(spread_s * 1000))


def _left_s(now_ms: int, deadline_ms: int | None) -> float:
    """Return the longest delay that still leaves time for a call; below 0 where none does."""
    if deadline_ms is None:
        return LONGEST_DELAY_S
    return min(LONGEST_DELAY_S, (deadline_ms - now_ms - SHORTEST_CALL_MS) / 1000)


def _too_long(asked_s: float, left_s: float) -> str:
    if left_s < 0:
        return "no retry: the deadline leaves no time for another call"
    if left_s < LONGEST_DELAY_S:
        limit = f"the deadline leaves {left_s:.12g} s"
    else:
        limit = f"no task waits longer than {LONGEST_DELAY_S} s"
    return f"no retry: the answer asked for {asked_s:.12g} s, {limit}"


def _explained(failure: Failure, text: str) -> Failure:
    """Add a reason to the message, where no clipping of a long message can reach it."""
    reason = f" ({text})"
    message = clip(failure.message or MEANINGS[failure.code], MESSAGE_LIMIT - len(reason))
    return replace(failure, message=message + reason)
