"""The language of faults: what is read, what is refused, and how calls are counted."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.simulator.faults import WORDS, BadSpec, Faults, Tally, parse


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        ("status=429", Faults(status=429)),
        ("status=503; retry-after=2", Faults(status=503, retry_after="2")),
        ("status=429;retry-after=0.5", Faults(status=429, retry_after="0.5")),
        ("status=429; retry-info=3s", Faults(status=429, retry_info="3s")),
        ("status=429; retry-info=1.5s", Faults(status=429, retry_info="1.5s")),
        ("status=500; first-chunk=1", Faults(status=500, first_s=1.0)),
        ("cut=5", Faults(cut=5)),
        ("cut=0", Faults(cut=0)),
        ("  cut = 5 ;  times = 2  ", Faults(cut=5, times=2)),
        ("error=5", Faults(error=5)),
        ("malformed=3", Faults(malformed=3)),
        ("stall=5:30", Faults(stall_after=5, stall_s=30.0)),
        ("stall=0:0.25; cut=7", Faults(stall_after=0, stall_s=0.25, cut=7)),
        ("first-chunk=2.0", Faults(first_s=2.0)),
        ("gap-ms=50", Faults(gap_s=0.05)),
        ("no-finish", Faults(no_finish=True)),
        ("split=bytes; gap-ms=0", Faults(split=True, gap_s=0.0)),
    ],
)
def test_a_spec_says_what_goes_wrong(spec: str, faults: Faults) -> None:
    assert parse(spec) == faults


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "no such word"),
        ("cutt=5", "'cutt': no such word; there are status, retry-after"),
        ("CUT=5", "no such word"),
        ("cut=5;", "'': no such word"),
        ("cut=5; cut=6", "cut: stands there twice"),
        ("cut", "cut: not ''; write it as in cut=5"),
        ("cut=", "cut: not ''"),
        ("cut=-1", "cut: not '-1'"),
        ("cut=1.5", "cut: not '1.5'"),
        ("cut=٣", "cut: not '٣'"),
        ("cut=1234567", "cut: not"),
        ("cut=5=6", "cut: not '5=6'"),
        ("status=200", "status: not '200'; write it as in status=429"),
        ("status=4290", "status: not"),
        ("status=429; retry-after=soon", "retry-after: not 'soon'"),
        ("status=429; retry-info=3", "retry-info: not '3'; write it as in retry-info=3s"),
        ("stall=5", "stall: not '5'; write it as in stall=5:30"),
        ("stall=5:", "stall: not"),
        ("stall=5:9999", "stall: not"),
        ("times=0; cut=1", "times: not '0'"),
        ("no-finish=1", "no-finish: not '1'"),
        ("no-finish=", "no-finish: not ''"),
        ("split=lines", "split: not 'lines'; write it as in split=bytes"),
        ("retry-after=2", "retry-after: needs a status"),
        ("retry-info=2s", "retry-info: needs a status"),
        ("times=1", "times: needs a fault"),
        ("status=500; cut=1", "cut and status: a call can end in one way only"),
        ("error=1; no-finish", "error and no-finish: a call can end"),
        ("status=500; stall=1:1", "stall: has no meaning beside status"),
    ],
)
def test_what_the_language_does_not_have_is_refused_with_what_would_be_right(
    spec: str, says: str
) -> None:
    with pytest.raises(BadSpec) as refusal:
        parse(spec)
    assert says in str(refusal.value)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_each_words_own_example_is_read(word: str) -> None:
    company = {"retry-after": "status=429; ", "retry-info": "status=429; ", "times": "cut=1; "}
    assert parse(company.get(word, "") + WORDS[word].example) != Faults()


@given(st.text() | st.lists(st.sampled_from([*WORDS, "=", ";", "5", ":", "30s"])).map("".join))
def test_any_text_is_read_or_refused_and_breaks_nothing(spec: str) -> None:
    with contextlib.suppress(BadSpec):
        assert parse(spec) != Faults()


def test_a_fault_with_times_is_due_in_the_first_calls_of_each_key_only() -> None:
    tally = Tally()
    assert [tally.due("a", 2) for _ in range(4)] == [True, True, False, False]
    assert tally.due("b", 2)


def test_the_counts_do_not_grow_without_bound() -> None:
    tally = Tally()
    assert tally.due("first", 1)
    for key in range(10_000):
        tally.due(str(key), 1)
    assert tally.due("first", 1), "the oldest key should have been forgotten"
    assert not tally.due("9999", 1), "a recent key should not"
