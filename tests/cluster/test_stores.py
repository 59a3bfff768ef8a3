"""What tests/store shows of a worker's store and one server, shown of it and a cluster."""

from tests.store.test_leases import (
    test_an_attempt_is_stopped_though_its_cancel_came_before_it_was_held,
)
from tests.store.test_roll import (
    test_a_worker_that_signs_stands_on_the_roll_with_what_it_said,
    test_who_leaves_is_struck_off_and_nobody_else,
)
from tests.store.test_store import (
    test_a_batch_of_which_redis_knows_only_the_later_scripts_keeps_its_order,
    test_a_claim_is_looked_after_from_its_first_moment,
    test_a_completed_task_needs_its_request_no_more,
    test_a_doorbell_carries_the_id_and_is_looked_after,
    test_a_foreign_task_is_put_on_record_once,
    test_a_refusal_touches_no_task_of_that_id,
    test_a_writer_learns_that_its_attempt_is_another_s,
    test_a_writer_that_has_ended_leaves_at_once,
    test_leases_are_renewed_together_and_noted,
    test_one_spoilt_record_costs_no_other_lease,
    test_one_worker_is_elected_until_its_term_is_over,
    test_scripts_that_redis_has_forgotten_are_loaded_again,
    test_what_is_no_tasks_id_leaves_the_list_of_what_is_due,
    test_who_resigns_leaves_the_office_to_others_though_its_pump_has_ended,
    test_writers_side_by_side_keep_their_order,
)
