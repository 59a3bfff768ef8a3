"""The overview on a terminal: whole in 80 columns, within its rows, and harmless."""

import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.top.readings import (
    CANARY,
    IDS,
    NOW,
    a_letter,
    a_sign,
    a_stream,
    a_task,
    an_error,
    doorbell,
    made,
)
from worker.cli.top.model import Overview
from worker.cli.top.screen import Around, frame, label, shares

AROUND: Final = Around("127.0.0.1:6379", ", every 2 s, q ends it")
#: What a stranger may write to spoil a terminal, or to pass for markup.
ESCAPE: Final = "\x1b]0;owned\x07\x1b[2J\x9b2J\r\n[red]x[/red]:bomb:\u202e\ud800"


def drawn(
    seen: Overview | None, *, around: Around = AROUND, height: int | None = 24, width: int = 80
) -> list[str]:
    """The rows of a frame, without colours."""
    file = io.StringIO()
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    console.print(frame(seen, around, width, height))
    return file.getvalue().splitlines()


def busy(streams: int = 4, retries: int = 2, letters: int = 2, workers: int = 2) -> Overview:
    """A system with that much in it."""
    ids = iter(f"{n:08x}-0000-4000-8000-000000000000" for n in range(10_000))
    running = {next(ids): a_stream(1000 * n, 10 * n, 40, 900) for n in range(1, streams + 1)}
    waiting = {
        next(ids): a_task("retrying", due_at=NOW + 1000 * n, error=an_error())
        for n in range(retries)
    }
    return made(
        queues={"router.interactive": (1204, doorbell(NOW - 14_000)), "router.batch": (0, b"")},
        signs=[a_sign(f"router-worker-{n}@host", taken=2) for n in range(workers)],
        tasks=dict.fromkeys(running, a_task()) | waiting,
        streams=running,
        letters=[a_letter(next(ids), NOW - 60_000 * n) for n in range(1, letters + 1)],
    )


def test_a_frame_has_all_that_somebody_wants_to_know() -> None:
    rows = drawn(busy())
    text = "\n".join(row.rstrip() for row in rows)
    assert rows[0].startswith("127.0.0.1:6379 ")
    assert rows[0].endswith(" 2027-01-15 08:00:00 UTC, every 2 s, q ends it")
    assert rows[1].rstrip() == "4 running, 6 open, 2 dead letters"
    assert re.search(r"^queue \(2\) +waiting +oldest waits$", text, re.MULTILINE)
    assert re.search(r"^router.interactive +1,204 +14 s$", text, re.MULTILINE)
    assert re.search(r"^router.batch +0 +–$", text, re.MULTILINE)
    assert re.search(r"^worker \(2\) +slots +attempts/s +last sign$", text, re.MULTILINE)
    assert re.search(r"^0@host +2/400 +0.00 +1 s takes tasks$", text, re.MULTILINE)
    assert re.search(r"^running \(4\) +model +age +att +chunks/s +last$", text, re.MULTILINE)
    stream = r"^00000003-0000-4000-8000-000000000000 gpt-4o +4 s +1 +22.2 +0.04 s$"
    assert re.search(stream, text, re.MULTILINE)
    assert re.search(r"^waits for its retry \(2\) +model +att +due after$", text, re.MULTILINE)
    retry = r"^00000005-0000-4000-8000-000000000000 gpt-4o +1 +in 1 s rate_limited 429$"
    assert re.search(retry, text, re.MULTILINE)
    assert re.search(r"^dead letter \(2\) +model +ago failed by$", text, re.MULTILINE)
    letter = r"^00000007-0000-4000-8000-000000000000 gpt-4o +120 s rate_limited 429$"
    assert re.search(letter, text, re.MULTILINE)
    assert CANARY not in text


def test_a_system_in_which_nothing_happens_is_shown() -> None:
    text = "\n".join(drawn(made()))
    for title in ("worker (0)", "running (0)", "waits for its retry (0)", "dead letter (0)"):
        assert title in text


@pytest.mark.parametrize("height", [10, 12, 16, 24, 50])
def test_a_frame_fits_its_rows_and_says_what_it_leaves_out(height: int) -> None:
    seen = busy(streams=40, retries=9, letters=30, workers=5)
    rows = drawn(seen, height=height)
    assert len(rows) <= height
    counted = re.search(r"running \((?:(\d+) of )?40\)", "\n".join(rows))
    assert counted is not None
    shown = sum(bool(re.search(r"^0000\S+ +gpt-4o .* 0.04 s *$", row)) for row in rows)
    assert int(counted[1] or 40) == shown


def test_without_a_height_nothing_is_left_out() -> None:
    rows = drawn(busy(streams=40, retries=9, letters=30, workers=5), height=None)
    assert len([row for row in rows if row.startswith("0000")]) == 79
    assert "running (40)" in "\n".join(rows)


def test_where_not_all_were_looked_at_it_says_so() -> None:
    seen = replace(busy(), open_tasks=100_812, looked_at=1000)
    assert "100,812 open (1,000 of them looked at)" in drawn(seen)[1]


def test_what_is_wrong_stands_above_the_last_frame() -> None:
    around = replace(AROUND, trouble="Redis cannot be used (refused); look at it " + "x" * 300)
    rows = drawn(busy(), around=around)
    assert rows[1].startswith("Redis cannot be used (refused)")
    assert any(row.startswith("router.batch") for row in rows)
    assert len(rows) <= 24
    assert len(drawn(None, around=around)) == 4


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (made(signs=[a_sign(ago_ms=42_000)]), "42 s gives no sign"),
        (made(signs=[a_sign(fault="the worker is leaving")]), "1 s the worker is leaving"),
        (made(signs=[replace(a_sign(), said=None)]), "1 s cannot be read"),
        (
            made(tasks={IDS[0]: a_task(lease_until=1)}, streams={IDS[0]: a_stream(1000)}),
            "no lease",
        ),
        (made(tasks={IDS[0]: a_task("retrying", due_at=NOW - 3000)}), "late 3 s"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(seen: Overview, said: str) -> None:
    assert said in "\n".join(drawn(seen))


def spoilt(text: str) -> Overview:
    """An overview in which a stranger has written all that strangers write."""
    seen = busy(streams=1, retries=1, letters=1, workers=1)
    return replace(
        seen,
        queues=[replace(one, name=text) for one in seen.queues],
        workers=[replace(one, name=text, fault=text) for one in seen.workers],
        streams=[replace(one, model=text, worker=text) for one in seen.streams],
        retries=[replace(one, task_id=text, model=text, code=text) for one in seen.retries],
        failures=[
            replace(one, task_id=text, model=None, kind=text, code=text) for one in seen.failures
        ],
    )


def _is_harmless(text: str) -> bool:
    return all(unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text)


@pytest.mark.parametrize("text", [ESCAPE, ESCAPE * 100, "漢字" * 50, "e\u0301" * 90, "[/]", ""])
@pytest.mark.parametrize("height", [24, None])
def test_a_strangers_word_is_shown_as_text_and_stays_in_its_column(
    text: str, height: int | None
) -> None:
    rows = drawn(spoilt(text), around=Around(text, trouble=text), height=height)
    assert all(_is_harmless(row) for row in rows)
    assert max(map(cell_len, rows)) <= 80
    assert len(rows) <= (height or 40)


@given(text=st.text(max_size=60), width=st.sampled_from([40, 80, 200]))
def test_no_word_breaks_out_of_its_column(text: str, width: int) -> None:
    rows = drawn(spoilt(text), around=Around(text, trouble=text), width=width)
    assert all(_is_harmless(row) for row in rows)
    assert max(map(cell_len, rows)) <= width
    assert len(rows) <= 24


def test_on_a_terminal_nothing_is_sent_but_text_and_colours() -> None:
    file = io.StringIO()
    console = Console(
        file=file, width=80, force_terminal=True, markup=False, emoji=False, highlight=False
    )
    console.print(frame(spoilt(ESCAPE), AROUND, 80, 24))
    text = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert _is_harmless(text.replace("\n", ""))
    assert "[red]x[/red]:bomb:" in text


def test_a_label_is_one_line_of_printable_characters() -> None:
    assert label(ESCAPE) == "]0;owned[2J2J [red]x[/red]:bomb:??"
    assert label("gpt-4o mini–ü漢") == "gpt-4o mini–ü漢"


@given(
    needs=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    rows=st.integers(-5, 60),
)
def test_rows_are_shared_out_fairly_and_none_is_left_over(needs: Sequence[int], rows: int) -> None:
    given_: list[Any] = shares(needs, rows)
    assert sum(given_) == min(sum(needs), max(0, rows))
    assert all(0 <= one <= need for one, need in zip(given_, needs, strict=True))
    short = [one for one, need in zip(given_, needs, strict=True) if one < need]
    assert max(given_, default=0) <= min(short, default=100) + 1
