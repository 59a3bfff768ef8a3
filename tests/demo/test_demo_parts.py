"""The pure parts of the demonstration: its layout, its figures, what it reads in answers."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from api_contracts.events import Chunk, Retrying, Started
from api_contracts.names import Queue, State
from api_contracts.requests import parse_task
from api_contracts.results import Usage
from worker.demo import scrape
from worker.demo.child import PartFailed
from worker.demo.guide import GUIDE
from worker.demo.play import Course, Row, Scene
from worker.demo.screen import Screen
from worker.demo.stage import clean, plan_router
from worker.demo.tools import calls_in, question_in, results_in, words_alone
from worker.demo.wrap import Wrap
from worker.metrics import Metrics
from worker.telemetry import METRICS, CallEnd, TaskEnd

TEXTS = st.text(st.sampled_from("aé 漢\n\t-’\x1b\x07"), max_size=200)


def laid_out(pieces: list[str], width: int = 12) -> str:
    wrap = Wrap(width, "  ")
    return "".join([*map(wrap.feed, pieces), wrap.close()])


@given(TEXTS, st.lists(st.integers(0, 200)), st.integers(6, 30))
def test_a_text_is_laid_out_the_same_however_it_is_cut(
    text: str, cuts: list[int], width: int
) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert laid_out(pieces, width) == laid_out([text], width)


@given(TEXTS, st.integers(6, 30))
def test_no_line_is_too_wide_and_no_visible_character_is_lost(text: str, width: int) -> None:
    written = laid_out([text], width)
    assert all(cell_len(line) <= width for line in written.split("\n"))
    visible = "".join(text.split()).replace("\x1b", "").replace("\x07", "")
    assert "".join(written.split()) == visible
    assert not written or written.endswith("\n")


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        ([], ""),
        (["one two three four"], "  one two\n  three four\n"),
        (["one\n\ntwo"], "  one\n\n  two\n"),
        (["if x:\n    go"], "  if x:\n      go\n"),
        (["abcdefghijklmnop"], "  abcdefghij\n  klmnop\n"),
        (["a\x1b[2Jb\r"], "  a[2Jb\n"),
    ],
)
def test_lines_are_whole_words_behind_an_indent(pieces: list[str], written: str) -> None:
    assert laid_out(pieces) == written


class Terminal(io.StringIO):
    """A terminal that remembers what it was sent."""

    def isatty(self) -> bool:
        return True


def shown(file: io.StringIO, *texts: str) -> str:
    """Return what is written when a stream of these texts breaks off and starts again."""
    console = Console(
        file=file, width=60, height=20, color_system="auto", _environ={"TERM": "xterm"}
    )
    screen = Screen(console, 1)
    task = {"kind": "chat", "request": {"model": "m", "messages": [
        {"role": "user", "content": "Well?"}
    ]}}  # fmt: skip
    screen.begin(Scene("1", GUIDE[0]), parse_task(task))
    told: dict[str, Any] = {"task_id": "t", "at": 0}
    for text in texts:
        data = {"choices": [{"index": 0, "delta": {"content": text}}]}
        screen.event(Chunk(id="1-1", data=data, **told))
    error: Any = {"code": "truncated", "message": "", "retryable": True}
    screen.event(Retrying(id="1-2", error=error, delay_ms=10, next_at=0, **told))
    file.truncate(0)
    file.seek(0)
    screen.event(Started(id="2-0", attempt=2, worker="w", resets=True, **told))
    return file.getvalue()


def test_on_a_terminal_a_void_text_is_struck_out_where_it_stands() -> None:
    # Two lines of text and two notes below them: four rows up, and two down again.
    written = shown(Terminal(), "one\n", "two")
    up, down = written.index("\x1b[4A\r"), written.index("\x1b[2B\r")
    struck = "\x1b[2;9m"  # dim, and crossed out
    assert f"{struck}one" in written[up:down]
    assert f"{struck}two" in written[up:down]


def test_a_void_text_that_has_left_the_screen_is_left_alone() -> None:
    assert "\x1b[2;9m" not in shown(Terminal(), "line\n" * 20)


def test_in_a_file_a_void_text_is_left_alone() -> None:
    assert shown(io.StringIO(), "one\n") == "  ↻ attempt 2: restarted, what came above is void\n"


def usage(tokens: int) -> Usage:
    return Usage(provenance="reported", input_tokens=tokens, output_tokens=tokens)


def test_only_what_moved_between_two_scrapes_is_told() -> None:
    metrics = Metrics(slots=4, models=["m"], prices={}, fleet=lambda: None, readings=dict)
    call = CallEnd("openai", "m", "openai", 200, "completed", 0.4, usage(5))
    metrics.called(call)
    before = metrics.exposition().decode()
    metrics.claimed(Queue.INTERACTIVE, 0.02)
    metrics.called(call)
    metrics.called(CallEnd("x", None, "openai", 429, "failed", 0.4, usage(2)))
    metrics.ended(TaskEnd("chat", "openai", "m", State.COMPLETED, 3.0))
    moved = {one.name: one for one in scrape.moved(before, metrics.exposition().decode())}
    assert {name: one.by for name, one in moved.items()} == {
        "router_worker_task_seconds": 1,
        "router_worker_queue_wait_seconds": 1,
        "router_worker_calls_total": 2,
        "router_worker_attempt_seconds": 2,
        "router_worker_tokens_total": 14,
    }
    assert moved["router_worker_calls_total"].detail == "2xx 1, 429 1"
    assert moved["router_worker_tokens_total"].detail == "input 7, output 7"
    # Both calls took 0.25 to 0.5 s: the median is put half-way.
    assert moved["router_worker_attempt_seconds"].detail.startswith("p50 ~0.38 s")


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ({"1.0": 10, "2.0": 10, "+Inf": 10}, 0.5, 0.5),
        ({"1.0": 0, "2.0": 10, "+Inf": 10}, 0.5, 1.5),
        ({"1.0": 5, "2.0": 10, "+Inf": 10}, 0.95, 1.9),
        ({"1.0": 0, "2.0": 0, "+Inf": 4}, 0.5, 2.0),
    ],
)
def test_quantiles_are_those_of_promql(
    buckets: dict[str, float], share: float, value: float
) -> None:
    assert scrape.quantile(buckets, share) == pytest.approx(value)


@pytest.mark.parametrize(
    ("outcome", "meant", "as_meant"),
    [
        ("completed", "completed", True),
        ("retried", "completed", True),
        ("restarted", "completed", True),
        ("retried", "retried", True),
        ("completed", "retried", False),
        ("retried", "restarted", False),
        ("rejected", "completed", False),
        ("no call", "completed", False),
        ("no ending", "completed", False),
    ],
)
def test_a_retry_is_never_wrong_but_a_fault_that_did_not_happen_is(
    outcome: str, meant: Course, *, as_meant: bool
) -> None:
    assert Row("1", "title", meant, outcome=outcome).as_meant is as_meant


def test_what_the_guide_asks_is_read_off_every_request() -> None:
    asked = [question_in(example.task["request"]) for example in GUIDE]
    assert asked == [
        "What is the capital of France?",
        "That was a good one. Tell me another.",
        "Write a short poem about the ocean.",
        "What's the weather like in Boston, MA?",
        "What’s in this image? [image/jpeg]",
        "Write a short story about a time-traveling historian.",
        "Tell me a potentially controversial joke.",
        "Explain the concept of neural networks to a 5-year-old.",
        "What is the weather like in San Francisco?",
    ]


@pytest.mark.parametrize(
    ("place", "response"),
    [
        (
            3,
            {"choices": [{"message": {"role": "assistant", "tool_calls": [
                {"id": "c1", "type": "function",
                 "function": {"name": "f", "arguments": '{"location": "Oslo"}'}}
            ]}}]},
        ),
        (
            8,
            {"content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"location": "Oslo"}},
            ]},
        ),
    ],
)  # fmt: skip
def test_a_function_call_is_read_in_both_dialects_and_so_is_its_result(
    place: int, response: dict[str, Any]
) -> None:
    (call,) = calls_in(response)
    assert (call.id, call.name, call.arguments) == ("c1", "f", '{"location": "Oslo"}')
    then = GUIDE[place].then
    assert then is not None
    request = then(response).task["request"]
    unknown = {"location": "Oslo", "temperature": "unknown"}
    assert json.loads(results_in(request)["c1"]) == unknown
    assert not question_in(request)


@pytest.mark.parametrize(
    ("request_", "alone"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, False),
        ({"messages": [{"role": "tool", "content": "a"}]}, False),
        ({"messages": [{"role": "user", "content": "a"}], "tools": []}, False),
        ({"messages": "a"}, False),
        ([], False),
    ],
)
def test_only_words_go_to_the_local_model(request_: Any, *, alone: bool) -> None:
    assert words_alone(json.dumps(request_).encode()) is alone


def test_the_real_router_is_called_only_with_a_key() -> None:
    assert plan_router({}, local_model=False).simulated
    assert plan_router({"YOUROUTER_API_KEY": " "}, local_model=False).simulated
    real = plan_router({"YOUROUTER_API_KEY": "secret"}, local_model=False)
    assert real.base_url == "https://api.yourouter.ai"
    assert "secret" not in repr(real)


def test_the_key_of_the_real_router_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("secret\n")
    assert plan_router({"YOUROUTER_API_KEY_FILE": str(path)}, local_model=False).key == "secret"
    path.unlink()
    with pytest.raises(PartFailed, match=r"^YOUROUTER_API_KEY cannot be taken from"):
        plan_router({"YOUROUTER_API_KEY_FILE": str(path)}, local_model=False)


def test_parts_see_no_setting_but_the_rest_of_the_environment() -> None:
    environment = {
        "PATH": "p", "PORT": "1", "REDIS_URL": "r", "REDIS_URL_FILE": "f",
        "ROUTER_WORKER_LEASE_S": "1", "YOUROUTER_API_KEY_FILE": "f",
    }  # fmt: skip
    assert clean(environment | {"YOUROUTER_API_KEY": "k"}) == {"PATH": "p"}


def test_every_counter_can_be_shown() -> None:
    counters = [row for row in METRICS if row.type == "counter"]
    text = ""
    for row in counters:
        labels = ",".join(f'{name}="x"' for name in row.labels)
        text += f"{row.name}{{{labels}}} 1\n"
    assert [one.name for one in scrape.moved("", text)] == [row.name for row in counters]
