"""`chat` and `native`, as somebody at a terminal uses them."""

import base64
import json
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest
import redis

from api_contracts.events import parse_event
from tests.cli.shell import Shell
from tests.parts import answers
from tests.parts.gate import Do, Gate, Pause, stream, whole
from tests.parts.tasks import PNG
from tests.parts.wait import until

UUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Slow:
    """An answer: two chunks, and the end once the test says so."""

    def __init__(self) -> None:
        """Hold it back."""
        self._pause = Pause(60)
        self.answer = stream(
            *answers.openai("The capital ", "of France ", finish=False),
            self._pause,
            *answers.openai("is Paris."),
        )

    def go_on(self) -> None:
        """Let it come to its end."""
        self._pause.over.set()


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Such an answer, which the worker is not left to wait for."""
    slow = Slow()
    yield slow
    slow.go_on()


def message(text: str | None, **fields: Any) -> dict[str, Any]:
    """A chat completion in one piece."""
    said = {"role": "assistant", "content": text, **fields}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}


def test_chat_writes_the_answer_alone_and_notes_beside_it(worked: Shell, gate: Gate) -> None:
    gate.answer(whole(message("Paris.")))
    ran = worked.run("chat", "The capital of France?")
    assert (ran.status, ran.out) == (0, "Paris.\n")
    assert re.fullmatch(
        rf"queued: task {UUID}\nstarted: attempt 1 on \S+\n"
        r"done \(stop\): 7 in \+ 5 out tokens \(reported\), queued [\d.]+ s, total [\d.]+ s, "
        r"1 attempt\n",
        ran.err,
    )
    assert gate.requests[0].json == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "The capital of France?"}],
    }


def test_what_is_asked_for_reaches_the_router_and_the_record(worked: Shell, gate: Gate) -> None:
    gate.answer(whole(message("ok")))
    asked = (
        "chat", "-", "--model", "m-1", "--vendor", "mistral", "--header", "X-Trace: a: b",
        "--priority", "batch", "--tenant", "t", "--idempotency-key", "k", "--deadline", "30",
    )  # fmt: skip
    before = time.time() * 1000
    ran = worked.run(*asked, "--json", stdin="Grüße,\nwer da?")
    after = time.time() * 1000
    assert ran.status == 0
    request = gate.requests[0]
    assert request.json["messages"][0]["content"] == "Grüße,\nwer da?"
    assert request.json["model"] == "m-1"
    assert (request.headers["vendor"], request.headers["x-trace"]) == ("mistral", "a: b")
    with redis.Redis.from_url(worked.env["REDIS_URL"]) as client:
        record: Any = client.hget(f"rw:{{{ran.lines[0]['task_id']}}}", "task")
    options = json.loads(record)["options"]
    assert before + 30_000 < options.pop("deadline") < after + 30_000
    assert options == {"priority": "batch", "tenant": "t", "idempotency_key": "k"}


def test_a_stream_is_written_while_it_comes(worked: Shell, gate: Gate, slow: Slow) -> None:
    gate.answer(slow.answer)
    with worked.start("chat", "?", "--stream") as chat:
        until(lambda: chat.out == "The capital of France ", "the first pieces")
        task_id = re.findall(r"task (\S+)", chat.err)[0]
        assert worked.client.status(task_id).state == "running"
        slow.go_on()
        ran = chat.wait()
    assert (ran.status, ran.out) == (0, "The capital of France is Paris.\n")


def test_json_gives_every_event_as_it_was_published_and_nothing_else(
    worked: Shell, gate: Gate, slow: Slow
) -> None:
    gate.answer(slow.answer)
    with worked.start("chat", "?", "--stream", "--json") as chat:
        until(lambda: chat.out.count('"chunk"') == 2, "the first chunks, a line each")
        assert chat.running
        slow.go_on()
        ran = chat.wait()
    events = [parse_event(line) for line in ran.out.splitlines()]
    assert [event.type for event in events] == [
        "queued", "started", "chunk", "chunk", "chunk", "chunk", "completed"
    ]  # fmt: skip
    assert events == list(worked.client.stream(events[0].task_id))
    assert ran.lines[2]["data"]["choices"][0]["delta"] == {"content": "The capital "}
    assert "result_key" not in ran.lines[-1]
    assert (ran.status, ran.err) == (0, "")


def test_a_restart_says_that_the_text_above_is_void(worked: Shell, gate: Gate) -> None:
    seen = Pause(60)
    gate.answer(
        stream(*answers.openai("Lyon", finish=False), seen, Do.CUT),
        stream(*answers.openai("Par", "is.")),
    )
    with worked.start("chat", "?", "--stream") as chat:
        until(lambda: chat.out == "Lyon", "the first piece")
        seen.over.set()
        ran = chat.wait()
    assert (ran.status, ran.out) == (0, "Lyon\nParis.\n")
    assert re.search(r"retrying in [\d.]+ s: truncated: .*; 1 call\)\n", ran.err)
    assert "restarted: the text above is void (attempt 2 on " in ran.err


def test_without_stream_only_the_final_answer_is_written(worked: Shell, gate: Gate) -> None:
    gate.answer(whole({"error": {"message": "slow\ndown"}}, status=429), whole(message("Paris.")))
    ran = worked.run("chat", "?")
    assert ran.out == "Paris.\n"
    assert re.search(r"retrying in [\d.]+ s: rate_limited: slow down \(HTTP 429; ", ran.err)
    assert ran.err.endswith("2 attempts\n")


def test_a_failed_task_says_why_and_exits_with_1(worked: Shell, gate: Gate) -> None:
    refusal = {"error": {"message": "no \x1b[31msuch model", "code": "model_not_found"}}
    gate.answer(whole(refusal, status=404, x_request_id="r-1"))
    ran = worked.run("chat", "?")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.endswith(
        "Error: the task failed: rejected: no [31msuch model "
        "(HTTP 404; provider's code model_not_found; request id r-1; 1 call)\n"
    )


def test_tool_calls_are_written_in_words(worked: Shell, gate: Gate) -> None:
    function = {"name": "weather", "arguments": '{"place": "Boston"}'}
    calls = [{"id": "1", "type": "function", "function": function}]
    gate.answer(whole(message(None, tool_calls=calls)))
    assert worked.run("chat", "?").out == 'weather({"place": "Boston"})\n'


def test_pictures_are_sent_by_path(worked: Shell, gate: Gate) -> None:
    gate.answer(whole(message("A dot.")))
    worked.file("dot.png", PNG)
    ran = worked.run("chat", "What is it?", "--image", "dot.png", "--image", "https://a.example/b")
    assert ran.out == "A dot.\n"
    parts = gate.requests[0].json["messages"][0]["content"]
    assert parts[0] == {"type": "text", "text": "What is it?"}
    urls = [part["image_url"]["url"] for part in parts[1:]]
    assert urls == [
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "https://a.example/b",
    ]


HOSTILE: Final = "a\x1b]0;owned\x07b\x9b2Jc\rd\te\nf\x7f\x00"


@pytest.mark.parametrize("flags", [["--stream"], [], ["--json"]])
def test_no_control_character_of_a_model_reaches_a_terminal(
    worked: Shell, gate: Gate, flags: list[str]
) -> None:
    streamed = "--stream" in flags
    gate.answer(stream(*answers.openai(HOSTILE)) if streamed else whole(message(HOSTILE)))
    status, seen = worked.run_on_terminal("chat", "?", *flags)
    assert status == 0
    assert set(seen.decode()) & {chr(code) for code in (*range(32), *range(127, 160))} <= {
        "\n",
        "\t",
    }
    if "--json" not in flags:
        assert b"a]0;ownedb2Jcd\te\nf\n" in seen


def test_a_pipe_gets_the_text_as_it_is(worked: Shell, gate: Gate) -> None:
    gate.answer(stream(*answers.openai(HOSTILE)))
    ran = worked.run("chat", "?", "--stream")
    assert ran.out == HOSTILE + "\n"


def test_on_a_terminal_notes_do_not_stand_inside_a_line_of_text(worked: Shell, gate: Gate) -> None:
    shown = Pause(60)
    gate.answer(
        stream(*answers.openai("Lyon", finish=False), shown, Do.CUT),
        stream(*answers.openai("Paris.")),
    )
    run = partial(worked.run_on_terminal, until=b"Lyon", then=shown.over.set)
    _, seen = run("chat", "?", "--stream")
    assert re.search(rb"\nLyon\nretrying in .*\nrestarted: .*\nParis\.\ndone ", seen)


def test_a_character_that_the_encoding_lacks_does_not_cost_the_answer(
    worked: Shell, gate: Gate
) -> None:
    gate.answer(whole(message("a caf\u00e9, 5 \u20ac")))
    ran = worked.run("chat", "?", PYTHONIOENCODING="ascii")
    assert (ran.status, ran.out) == (0, "a caf?, 5 ?\n")


def test_a_reader_that_goes_away_is_no_reason_to_complain(
    worked: Shell, gate: Gate, slow: Slow
) -> None:
    gate.answer(slow.answer)
    ran = worked.run_piped("chat", "?", "--stream", until=b"France", then=slow.go_on)
    assert ran.status == 1
    assert re.fullmatch(r"queued: .*\nstarted: .*\n", ran.err)


def test_no_wait_writes_the_id_alone_for_watch_and_result(worked: Shell, gate: Gate) -> None:
    gate.answer(whole(message("Paris.")), whole(message("Lyon.")))
    plain = worked.run("chat", "?", "--no-wait")
    assert re.fullmatch(UUID, plain.out.strip())
    assert (plain.status, plain.err) == (0, "")
    assert worked.run("result", plain.out.strip()).out == "Paris.\n"
    (as_json,) = worked.run("chat", "!", "--no-wait", "--json").lines
    assert worked.run("watch", as_json["task_id"]).out == "Lyon.\n"


def test_the_same_idempotency_key_gives_the_same_task_back(worked: Shell, gate: Gate) -> None:
    gate.answer(whole(message("Paris.")))
    asked = ("chat", "?", "--idempotency-key", "order-17")
    assert [worked.run(*asked).out for _ in range(2)] == ["Paris.\n", "Paris.\n"]
    assert len(gate.requests) == 1
    other = worked.run("chat", "something else", "--idempotency-key", "order-17")
    assert other.status == 2
    assert "options.idempotency_key: already used by task " in other.err


NATIVE: Final = {
    "anthropic, streamed": (
        ("/v1/messages", "--stream"), stream(*answers.anthropic("Par", "is.")), "Paris.\n",
    ),
    "anthropic, with a tool": (
        ("/v1/messages",),
        whole({
            "type": "message", "role": "assistant", "stop_reason": "tool_use",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "1", "name": "weather", "input": {"place": "Bönn"}},
            ],
        }),
        'Let me look.\nweather({"place": "Bönn"})\n',
    ),
    "gemini, streamed": (
        (f"{answers.GEMINI}:streamGenerateContent?alt=sse",),
        stream(*(answers.event(one) for one in answers.gemini("Par", "is."))),
        "Paris.\n",
    ),
    "an answer that is no message": (
        ("/v1/embeddings",), whole({"data": [{"embedding": [0.5]}]}),
        '{\n  "data": [\n    {\n      "embedding": [\n        0.5\n      ]\n    }\n  ]\n}\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NATIVE)
def test_native_calls_are_written_in_every_protocol(worked: Shell, gate: Gate, name: str) -> None:
    arguments, answer, expected = NATIVE[name]
    gate.answer(answer)
    body = {"model": "m", "max_tokens": 9, "new": {"unknown": 1.0}}
    ran = worked.run("native", *arguments, "--body", worked.file("body.json", body))
    assert (ran.status, ran.out) == (0, expected), ran.err
    assert gate.requests[0].path == arguments[0]
    streamed = {"stream": True} if "--stream" in arguments else {}
    assert gate.requests[0].json == body | streamed


def test_native_takes_its_body_from_standard_input_and_polls_with_get(
    worked: Shell, gate: Gate
) -> None:
    gate.answer(whole({"id": "v-1"}), whole({"id": "v-1", "status": "running"}))
    path = "/api/v3/contents/generations/tasks"
    created = worked.run("native", path, "--body", "-", stdin='{"model": "m"}')
    assert '"id": "v-1"' in created.out
    polled = worked.run("native", f"{path}/v-1", "--get", "--vendor", "volcengine")
    assert '"status": "running"' in polled.out
    assert [(one.method, one.body) for one in gate.requests] == [
        ("POST", b'{"model":"m"}'),
        ("GET", b""),
    ]


WRONG: Final = {
    "no body": (["native", "/v1/messages"], "give either --body FILE or --get"),
    "body and get": (["native", "/v1/x", "--get", "--body", "-"], "give either --body"),
    "no such file": (["native", "/v1/x", "--body", "gone"], "No such file"),
    "body is no object": (["native", "/v1/x", "--body", "list"], "must be JSON objects"),
    "two bodies": (["native", "/v1/x", "--body", "two"], "must be one JSON object in it, not 2"),
    "no JSON": (["native", "/v1/x", "--body", "broken"], "no JSON at line 2, column 6: "),
    "no UTF-8": (["native", "/v1/x", "--body", "latin"], "no UTF-8 at byte 6"),
    "path outside": (["native", "/admin", "--get"], "path: must begin with /v1/ or /api/v3/"),
    "vendor": (["chat", "?", "--vendor", "a b"], "vendor: must match"),
    "header without colon": (["chat", "?", "--header", "x"], "a header reads 'NAME: VALUE'"),
    "header twice": (["chat", "?", "--header", "x: 1", "--header", "x: 2"], "x is given twice"),
    "header of ours": (["chat", "?", "--header", "Authorization: k"], "is not a task's to set"),
    "no picture": (["chat", "?", "--image", "list"], "list: the bytes are no PNG, JPEG"),
    "picture gone": (["chat", "?", "--image", "gone.png"], "gone.png: No such file"),
    "private picture": (["chat", "?", "--image", "https://10.0.0.1/a"], "a public host"),
    "tenant": (["chat", "?", "--tenant", "a:b"], "options.tenant: must match"),
    "deadline": (["chat", "?", "--deadline", "0"], "'--deadline'"),
    "deadline without end": (["chat", "?", "--deadline", "inf"], "'inf' is no duration"),
    "deadline too far": (["chat", "?", "--deadline", "1e300"], "options.deadline: must be at most"),
    "time-out": (["chat", "?", "--timeout", "nan"], "'nan' is no duration"),
    "prompt is no UTF-8": (["chat", "-"], "standard input is no UTF-8 at byte 1"),
    "unknown command": (["chatt"], "No such command 'chatt'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_command_line_or_task_exits_with_2_and_sends_nothing(
    shell: Shell, name: str
) -> None:
    arguments, words = WRONG[name]
    for file, content in (
        ("list", "[1]"), ("two", "{} {}"), ("broken", '{"a":\n "b" secret}'),
        ("latin", b'{"a":"\xff"}'),
    ):  # fmt: skip
        shell.file(file, content)
    # A Redis that is away would be another status: nobody asked it.
    ran = shell.run_here(*arguments, stdin=b"a\xff", REDIS_URL="redis://127.0.0.1:1")
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.err
    assert "secret" not in ran.err


def test_the_name_of_a_key_goes_into_the_record_and_a_name_that_is_none_nowhere(
    shell: Shell,
) -> None:
    ran = shell.run_here("chat", "?", "--credential", "acme", "--no-wait")
    assert ran.status == 0
    with redis.Redis.from_url(shell.env["REDIS_URL"]) as client:
        record: Any = client.hget(f"rw:{{{ran.out.strip()}}}", "task")
    assert json.loads(record)["options"] == {"credential": "acme"}
    ran = shell.run_here("chat", "?", "--credential", "../acme", "--no-wait")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("Error: options.credential: must match")
