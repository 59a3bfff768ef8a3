"""What tests/e2e shows of a worker and one server, shown while Sentinel makes another the master.

The tests are those of tests/e2e; the fixtures beside this file say what happens meanwhile. Left out
are those that cancel in that moment: who asks is told that Redis cannot be used, and asks again.
"""
# ruff: noqa: F401 - pytest finds what is imported

import pytest

from tests.e2e.test_broken_streams import test_after_a_cut_the_answer_begins_anew_and_says_so
from tests.e2e.test_cancel import (
    test_what_has_ended_stays_as_it_is,
)
from tests.e2e.test_deadlines import test_a_task_that_is_past_its_start_by_is_never_sent
from tests.e2e.test_folding import test_a_folded_stream_equals_the_answer_that_came_whole
from tests.e2e.test_foreign import (
    test_a_hundred_messages_with_one_key_are_one_call,
    test_a_key_that_another_content_has_is_refused_whoever_has_it,
)
from tests.e2e.test_guide import router, test_every_request_of_the_guide_is_answered
from tests.e2e.test_retries import (
    test_after_a_rate_limit_it_comes_back_no_earlier_than_asked,
    test_every_attempt_is_on_record_with_its_request_id,
    test_it_gives_up_after_as_many_calls_as_the_policy_or_the_task_says,
)

pytestmark = pytest.mark.usefixtures("worker")
