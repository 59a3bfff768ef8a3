"""The threat model names tests that there are."""

import re

import pytest

from tests.parts.program import ROOT

#: What stands in backticks and begins as a path of ours does.
NAMED = sorted(
    set(re.findall(r"`((?:tests|deploy)/[^`]+)`", (ROOT / "deploy/THREATS.md").read_text()))
)


@pytest.mark.parametrize("name", NAMED)
def test_what_the_threat_model_names_is_there(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).is_file()
    if test:
        assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_attack_that_is_met_is_shown_to_be() -> None:
    text = (ROOT / "deploy/THREATS.md").read_text()
    rows = re.findall(r"^\|.*\|$", text.partition("## What is defended")[2], re.MULTILINE)[2:]
    assert len(rows) > 10
    for row in rows:
        assert re.search(r"\| `[^|]+` \|$", row), row
