"""The tests of the reaper, as they stand elsewhere, with the queues on RabbitMQ."""
# ruff: noqa: F401 - pytest finds what is imported

from tests.integration.test_reaper import (
    test_a_killed_workers_stream_is_restarted_by_another,
    test_a_lost_doorbell_is_rung_again,
    test_a_queue_that_is_merely_long_is_rung_for_by_nobody,
    test_a_retry_whose_timer_died_with_its_worker_is_made_by_another,
)
