"""What tests/client shows of both clients and one server, shown of them and a cluster."""

import pytest

from tests.client.test_cancel import (
    test_a_queued_task_ends_at_once_for_everybody_who_waits,
    test_a_replayed_task_can_be_cancelled_and_followed,
    test_a_running_task_s_stream_ends_with_the_cancel,
    test_somebody_looks_at_a_cancelled_task_next,
)
from tests.client.test_enqueue import (
    test_a_forgotten_script_is_loaded_again,
    test_a_key_with_another_content_names_its_task,
    test_a_key_with_the_same_content_gives_the_first_task_back,
    test_a_task_is_on_record_looked_after_and_rung,
    test_an_id_with_another_content_is_taken,
    test_one_key_from_a_hundred_threads_is_one_task,
)
from tests.client.test_enqueue_all import (
    test_all_are_on_record_looked_after_and_rung_in_their_order,
    test_keys_are_held_among_them_too,
    test_where_one_is_refused_the_others_are_on_record,
)
from tests.client.test_letters import (
    test_letters_are_listed_newest_first_with_all_but_their_bodies,
    test_what_is_dead_no_more_is_left_out_and_struck_off_once_it_is_not_new,
)
from tests.client.test_replay import (
    test_a_replayed_task_is_run_again_under_its_own_id,
    test_a_subscriber_who_comes_back_in_the_middle_goes_on_behind_the_replay,
    test_a_task_that_dies_again_is_a_letter_again,
    test_forgotten_scripts_are_loaded_again,
)
from tests.client.test_results import (
    test_a_result_is_waited_for_through_death_and_retry,
    test_a_status_tells_what_the_record_says,
    test_an_unknown_task_is_not_found,
    test_another_ending_than_completed_is_raised,
    test_text_of_a_restarted_task_is_not_joined,
)
from tests.client.test_streams import (
    test_a_log_longer_than_a_page_is_read_whole,
    test_a_stream_resumes_behind_any_event,
    test_a_stream_that_was_opened_first_gets_everything_live,
    test_an_attempt_that_changes_live_says_what_is_void,
    test_events_over_the_channel_s_limit_come_whole_and_in_their_place,
    test_messages_that_come_again_are_shown_once,
    test_what_the_channel_swallowed_is_read_from_the_log,
)

pytestmark = pytest.mark.usefixtures("redis_url")
