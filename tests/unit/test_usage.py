"""Tokens: reported, estimated, added up; never a false 0."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.results import Usage
from worker.usage import LARGEST, UNAVAILABLE, added, estimated, reported

COUNTS = st.none() | st.integers(0, 10**9)
USAGES = st.builds(
    Usage,
    provenance=st.sampled_from(["reported", "estimated", "unavailable"]),
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    total_tokens=COUNTS,
    cached_tokens=COUNTS,
    reasoning_tokens=COUNTS,
)


def test_a_report_is_taken_as_it_is_and_its_total_added_up_where_it_is_missing() -> None:
    told = reported(input_tokens=3, output_tokens=4, cached_tokens=1, reasoning_tokens=0)
    assert told == Usage(
        provenance="reported",
        input_tokens=3,
        output_tokens=4,
        total_tokens=7,
        cached_tokens=1,
        reasoning_tokens=0,
    )
    assert reported(input_tokens=3, output_tokens=4, total_tokens=9).total_tokens == 9
    assert reported(input_tokens=3, output_tokens=None).total_tokens is None


def test_a_true_zero_is_kept_beside_another_number() -> None:
    assert reported(input_tokens=3, output_tokens=0).output_tokens == 0


@pytest.mark.parametrize(("taken", "made"), [(0, 0), (None, None), (0, None), (None, 0)])
def test_a_report_of_nothing_but_zeros_is_none(taken: int | None, made: int | None) -> None:
    assert reported(input_tokens=taken, output_tokens=made, total_tokens=0) == UNAVAILABLE


@pytest.mark.parametrize(
    "value",
    ["3", -1, 2.5, True, [3], {"a": 3}, float("nan"), float("inf"), LARGEST + 1, 10**400, 1e300],
    ids=lambda value: str(value)[:10],
)
def test_what_is_no_count_was_not_reported(value: Any) -> None:
    assert reported(input_tokens=value, output_tokens=5).input_tokens is None


def test_a_whole_number_written_with_a_point_is_a_count() -> None:
    assert reported(input_tokens=3.0, output_tokens=5).input_tokens == 3


@pytest.mark.parametrize(("characters", "tokens"), [(1, 1), (4, 1), (5, 2), (8, 2), (4001, 1001)])
def test_four_characters_are_a_token_and_a_part_counts(characters: int, tokens: int) -> None:
    assert estimated(characters).output_tokens == tokens


def test_an_estimate_has_the_input_that_was_reported_and_a_total_only_of_both() -> None:
    assert estimated(9, input_tokens=5).total_tokens == 8
    assert estimated(9).total_tokens is None
    assert estimated(0, input_tokens=5).output_tokens is None
    assert estimated(0, input_tokens=5).provenance == "estimated"
    assert estimated(0, input_tokens=0) == estimated(0) == UNAVAILABLE


def test_a_sum_is_as_weak_as_its_weakest_part() -> None:
    strong = reported(input_tokens=3, output_tokens=4)
    middling = estimated(8)
    assert added([strong, strong]).provenance == "reported"
    assert added([strong, middling]).provenance == "estimated"
    assert added([middling, UNAVAILABLE, strong]).provenance == "unavailable"
    assert added([]) == UNAVAILABLE


def test_null_and_a_number_is_the_number() -> None:
    whole = added([reported(input_tokens=3, output_tokens=4), estimated(8)])
    assert (whole.input_tokens, whole.output_tokens, whole.total_tokens) == (3, 6, 9)
    assert whole.cached_tokens is None


@given(USAGES)
def test_one_usage_alone_adds_up_to_itself(usage: Usage) -> None:
    assert added([usage]) == usage


@given(st.lists(USAGES, min_size=1), st.lists(USAGES, min_size=1))
def test_usages_may_be_added_in_any_grouping(left: list[Usage], right: list[Usage]) -> None:
    assert added([added(left), added(right)]) == added([*right, *left])
