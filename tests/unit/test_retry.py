"""What the decision after a failed call promises, whatever the numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import MESSAGE_LIMIT, ErrorCode
from api_contracts.options import RetryPolicy
from worker.errors import RETRYABLE, Failure
from worker.retry import LONGEST_DELAY_S, SHORTEST_CALL_MS, GiveUp, Reason, Retry, decide

NOW = int(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1000)
#: No deadline, no chance: the longest draw.
LONGEST: Callable[[float], float] = float
OVERLOADED = Failure(ErrorCode.OVERLOADED, "busy", status=503)


def after(
    failure: Failure = OVERLOADED,
    failures: int = 1,
    policy: RetryPolicy | None = None,
    left_ms: int | None = None,
    jitter: Callable[[float], float] = LONGEST,
) -> Retry | GiveUp:
    return decide(
        failure,
        failures=failures,
        policy=policy or RetryPolicy(),
        now_ms=NOW,
        deadline_ms=None if left_ms is None else NOW + left_ms,
        jitter=jitter,
    )


def asking(asked_s: float) -> Failure:
    return Failure(ErrorCode.RATE_LIMITED, "slow down", status=429, asked_s=asked_s)


@pytest.mark.parametrize(
    ("failures", "ceiling_ms"),
    [(1, 1000), (2, 2000), (3, 4000), (4, 8000), (5, 16_000), (6, 32_000), (7, 60_000)],
)
def test_the_ceiling_doubles_from_one_second_to_the_cap(failures: int, ceiling_ms: int) -> None:
    decision = after(failures=failures, policy=RetryPolicy(max_attempts=99))
    assert decision == Retry(OVERLOADED, ceiling_ms)


@pytest.mark.parametrize("code", [code for code in ErrorCode if code not in RETRYABLE])
def test_a_failure_that_no_repetition_mends_is_given_up_as_it_is(code: ErrorCode) -> None:
    failure = Failure(code, "no", asked_s=1.0)
    assert after(failure) == GiveUp(failure, Reason.NOT_RETRYABLE)


@pytest.mark.parametrize("code", sorted(RETRYABLE))
def test_every_other_failure_is_retried(code: ErrorCode) -> None:
    assert isinstance(after(Failure(code)), Retry)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_the_answers_own_word_wins_over_the_code_both_ways(code: ErrorCode) -> None:
    assert isinstance(after(Failure(code, should_retry=True)), Retry)
    refused = after(Failure(code, should_retry=False))
    assert isinstance(refused, GiveUp)
    assert refused.reason is Reason.NOT_RETRYABLE


def test_the_answers_own_word_wins_neither_over_the_count_nor_over_the_deadline() -> None:
    willing = Failure(ErrorCode.REJECTED, "again, please", should_retry=True)
    counted = after(willing, failures=5)
    late = after(willing, left_ms=0)
    assert isinstance(counted, GiveUp)
    assert counted.reason is Reason.ATTEMPTS_EXHAUSTED
    assert isinstance(late, GiveUp)
    assert late.reason is Reason.DEADLINE


def test_five_calls_are_made_by_default_and_the_last_error_says_so() -> None:
    assert isinstance(after(failures=4), Retry)
    decision = after(failures=5)
    assert isinstance(decision, GiveUp)
    assert decision.reason is Reason.ATTEMPTS_EXHAUSTED
    assert decision.failure.message == "busy (no retry: 5 of 5 calls failed)"
    assert decision.failure.code is ErrorCode.OVERLOADED


@pytest.mark.parametrize(
    ("asked_s", "left_ms", "delay_ms"),
    [
        (2.0, None, 3000),  # what was asked for, and the ceiling of the first back-off
        (0.2501, None, 1251),  # never earlier: parts of a ms are rounded up
        (47.0, 60_000, 48_000),
        (47.0, 47_600, 47_500),  # our jitter yields to the deadline
        (47.0, 47_100, 47_000),  # just enough for the call
        (0.0, 600, 500),
        (0.0, 100, 0),
        (-5.0, None, 1000),  # a date that has passed asks for nothing
        (math.nan, None, 1000),
        (86_400.0, None, 86_400_000),
    ],
)
def test_the_delay_is_what_was_asked_for_and_a_jitter_within_the_deadline(
    asked_s: float, left_ms: int | None, delay_ms: int
) -> None:
    decision = after(asking(asked_s), left_ms=left_ms)
    assert isinstance(decision, Retry)
    assert decision.delay_ms == delay_ms


@pytest.mark.parametrize(
    ("asked_s", "left_ms", "message"),
    [
        (
            47.0,
            47_099,
            "slow down (no retry: the answer asked for 47 s, the deadline leaves 46.999 s)",
        ),
        (0.0, 99, "slow down (no retry: the deadline leaves no time for another call)"),
        (0.0, -5000, "slow down (no retry: the deadline leaves no time for another call)"),
        (
            1e15,
            None,
            "slow down (no retry: the answer asked for 1e+15 s, no task waits longer than 86400 s)",
        ),
        (
            math.inf,
            None,
            "slow down (no retry: the answer asked for inf s, no task waits longer than 86400 s)",
        ),
    ],
)
def test_more_than_the_time_that_is_left_is_given_up_at_once(
    asked_s: float, left_ms: int | None, message: str
) -> None:
    decision = after(asking(asked_s), left_ms=left_ms)
    assert isinstance(decision, GiveUp)
    assert decision.reason is Reason.DEADLINE
    assert decision.failure.message == message
    assert decision.failure.code is ErrorCode.RATE_LIMITED


def test_the_reason_for_giving_up_survives_a_message_that_fills_the_limit() -> None:
    decision = after(Failure(ErrorCode.OVERLOADED, "ü" * MESSAGE_LIMIT), failures=5)
    assert isinstance(decision, GiveUp)
    written = decision.failure.task_error(attempts=5).message
    assert written.endswith("ü (no retry: 5 of 5 calls failed)")
    assert len(written.encode()) <= MESSAGE_LIMIT


def test_an_error_without_words_is_explained_by_its_code_before_the_reason() -> None:
    decision = after(Failure(ErrorCode.TRUNCATED), failures=5)
    assert isinstance(decision, GiveUp)
    assert decision.failure.message.startswith("The answer ended before its finish frame. (no")


@pytest.mark.parametrize("asked_s", [None, 5.0])
def test_ten_thousand_delays_are_uniform_and_none_is_earlier_than_asked(
    asked_s: float | None,
) -> None:
    """Kolmogorov-Smirnov against uniform: D over 1.95/sqrt(n) happens once in a thousand."""
    n, ceiling_ms, asked_ms = 10_000, 8000, (asked_s or 0.0) * 1000
    source = random.Random(7)
    failure = Failure(ErrorCode.RATE_LIMITED, asked_s=asked_s)

    def draw() -> float:
        decision = after(failure, 4, jitter=lambda ceiling: source.uniform(0, ceiling))
        assert isinstance(decision, Retry)
        return (decision.delay_ms - asked_ms) / ceiling_ms

    drawn = sorted(draw() for _ in range(n))
    assert drawn[0] >= 0.0
    assert drawn[-1] <= 1.0
    distance = max(max((i + 1) / n - x, x - i / n) for i, x in enumerate(drawn))
    assert distance < 1.95 / math.sqrt(n)


def test_the_jitter_of_the_worker_itself_spreads_over_the_whole_ceiling() -> None:
    decisions = [
        decide(OVERLOADED, failures=4, policy=RetryPolicy(), now_ms=NOW, deadline_ms=None)
        for _ in range(1000)
    ]
    delays = [decision.delay_ms for decision in decisions if isinstance(decision, Retry)]
    assert len(delays) == 1000
    assert min(delays) < 800
    assert max(delays) > 7200


policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    base_s=st.floats(0, 3600),
    factor=st.floats(1, 10),
    cap_s=st.floats(0, 3600),
)


@given(
    policy=policies,
    failures=st.integers(1, 100),
    asked_s=st.none() | st.floats(-10, 2 * LONGEST_DELAY_S),
    left_ms=st.none() | st.integers(-10_000, 200_000_000),
    chance=st.floats(0, 1),
)
def test_a_delay_is_never_earlier_than_asked_nor_past_the_deadline(
    policy: RetryPolicy,
    failures: int,
    asked_s: float | None,
    left_ms: int | None,
    chance: float,
) -> None:
    failure = Failure(ErrorCode.RATE_LIMITED, asked_s=asked_s)
    decision = after(failure, failures, policy, left_ms, lambda ceiling: chance * ceiling)
    asked_ms = max(0.0, asked_s or 0.0) * 1000
    if isinstance(decision, GiveUp):
        exhausted = failures >= policy.max_attempts
        late = left_ms is not None and asked_ms > left_ms - SHORTEST_CALL_MS
        assert exhausted or late or asked_ms > LONGEST_DELAY_S * 1000
        return
    assert failures < policy.max_attempts
    assert asked_ms <= decision.delay_ms <= asked_ms + policy.ceiling_s(failures) * 1000 + 1
    if left_ms is not None:
        assert decision.delay_ms <= left_ms - SHORTEST_CALL_MS + 1


@given(policy=policies, failures=st.integers(1, 1_000_000))
def test_the_ceiling_never_falls_overflows_or_passes_the_cap(
    policy: RetryPolicy, failures: int
) -> None:
    ceiling = policy.ceiling_s(failures)
    assert 0 <= ceiling <= policy.ceiling_s(failures + 1) <= policy.cap_s


def test_a_million_failures_are_counted_without_overflow() -> None:
    steep = RetryPolicy(max_attempts=100, base_s=3600, factor=10, cap_s=3600)
    assert steep.ceiling_s(1_000_000) == 3600
    decision = after(failures=1_000_000, policy=steep)
    assert isinstance(decision, GiveUp)
    assert decision.reason is Reason.ATTEMPTS_EXHAUSTED
