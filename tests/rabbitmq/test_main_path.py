"""The tests of the main path, as they stand elsewhere, with the queues on RabbitMQ."""
# ruff: noqa: F401 - pytest finds what is imported

import pytest

from tests.e2e.test_broken_streams import test_after_a_cut_the_answer_begins_anew_and_says_so
from tests.e2e.test_cancel import (
    test_a_retrying_task_never_comes_back,
    test_a_running_task_s_connection_is_closed,
    test_whenever_the_cancel_comes_there_is_one_ending_and_it_is_the_one_that_was_told,
)
from tests.e2e.test_deadlines import (
    test_a_deadline_does_not_count_for_a_task_that_is_replayed_later,
    test_a_task_that_is_past_its_start_by_is_never_sent,
)
from tests.e2e.test_folding import test_a_folded_stream_equals_the_answer_that_came_whole
from tests.e2e.test_guide import router, test_every_request_of_the_guide_is_answered
from tests.e2e.test_retries import (
    test_after_a_rate_limit_it_comes_back_no_earlier_than_asked,
    test_it_gives_up_after_as_many_calls_as_the_policy_or_the_task_says,
)

pytestmark = pytest.mark.usefixtures("worker")
