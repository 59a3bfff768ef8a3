"""The tests of workers that leave, as they stand elsewhere, with the queues on RabbitMQ."""
# ruff: noqa: F401 - pytest finds what is imported

from tests.e2e.test_drain import (
    begin,
    client,
    own_redis,
    server,
    start,
    test_an_idle_worker_leaves_within_two_seconds,
    test_messages_that_come_while_a_worker_leaves_are_the_next_ones,
    test_rolling_restarts_under_load_lose_nothing_and_spend_no_attempts,
    test_streams_that_outlast_the_grace_are_handed_back_and_run_elsewhere,
)
