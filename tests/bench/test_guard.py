"""The guard: CI fails where router-worker has become slower, beside the limit."""

import json
from pathlib import Path

import pytest

from tests.bench import guard


# Seconds: twice as long as two measurements take where others have half of the machine.
@pytest.mark.timeout(900)
def test_it_is_as_fast_as_recorded(tmp_path: Path) -> None:
    recorded = json.loads(guard.RECORDED.read_text())
    behind = guard.slower(guard.ratios(tmp_path), recorded)
    # What happens seldom by chance does not happen twice in a row.
    assert not behind or not guard.slower(guard.ratios(tmp_path), recorded), behind


def test_only_what_is_above_its_noise_is_slower() -> None:
    recorded = {"a": {"ratio": 2.0, "noise": 0.3}, "b": {"ratio": 1.5, "noise": 0.2}}
    assert guard.slower({"a": 2.29, "b": 1.0}, recorded) == []
    assert guard.slower({"a": 2.31, "b": 1.75}, recorded) == [
        "(a): 2.31 times the limit's CPU; recorded were 2.00, and 0.30 more may be noise",
        "(b): 1.75 times the limit's CPU; recorded were 1.50, and 0.20 more may be noise",
    ]
