"""The chat guide's requests: good tasks, and answered by the simulator, both ways."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api_contracts.content import image_type
from api_contracts.requests import NativeTask, parse_task
from tests.simulator import saying
from tests.simulator.saying import Saying
from worker.demo.guide import GUIDE, Example, fault_examples
from worker.demo.picture import chessboard

ANSWERS = [
    ("Basic usage", "The capital of France is Paris."),
    ("Multi-turn conversation", "I asked my computer for a break. It gave me a breakpoint."),
    ("Streaming responses", "The ocean hums a patient tune,"),
    ("Function calling", "get_current_weather {'location': 'Boston, MA', 'unit': 'celsius'}"),
    ("Function calling: the tool's answer", "It is 10 °C in Boston right now."),
    ("Vision", "There is one image here: a JPEG of 178 bytes."),
    ("Gemini: generate content", "Dr. Inès Moreau had one rule"),
    ("Gemini: safety settings", "Tabs or spaces?"),
    ("Claude: Messages API", "Imagine a big room full of little helpers"),
    ("Tool use with Claude", "get_weather {'location': 'San Francisco'}"),
    (
        "Tool use with Claude: the tool's answer",
        "It is 15°C and cloudy in San Francisco right now.",
    ),
]


def send(router: httpx.Client, example: Example, *, stream: bool) -> httpx.Response:
    """Send an example's request as a worker would, in the form asked for."""
    task = parse_task(example.task)
    path = task.path if isinstance(task, NativeTask) else "/v1/chat/completions"
    body: dict[str, Any] = dict(task.request)
    if ":generateContent" in path and stream:
        path = path.replace(":generateContent", ":streamGenerateContent") + "?alt=sse"
    elif ":generateContent" not in path:
        body["stream"] = stream
        if stream and path == "/v1/chat/completions":
            body["stream_options"] = {"include_usage": True}
    headers = {**task.headers, "vendor": task.vendor}
    return router.post(path, json=body, headers=headers)


def whole(answer: dict[str, Any]) -> Saying:
    if "choices" in answer:
        return saying.openai_whole(answer)
    return saying.gemini_whole(answer) if "candidates" in answer else saying.anthropic_whole(answer)


def streamed(events: list[Any]) -> Saying:
    if "choices" in events[0]:
        return saying.openai_stream(events)
    if "candidates" in events[0]:
        return saying.gemini_stream(events)
    return saying.anthropic_stream(events)


def follow(router: httpx.Client) -> Iterator[tuple[Example, Saying, Saying]]:
    """Go through the guide with every second request, each asked both ways."""
    for first in GUIDE:
        example: Example | None = first
        while example is not None:
            answer = send(router, example, stream=False).raise_for_status().json()
            stream = send(router, example, stream=True).raise_for_status().text
            yield example, whole(answer), streamed(saying.events(stream))
            example = example.then(answer) if example.then else None


def test_every_request_of_the_guide_is_answered_the_same_both_ways(router: httpx.Client) -> None:
    seen = []
    for example, once, in_pieces in follow(router):
        assert once == in_pieces, example.title
        assert once.output_tokens > 0
        said = [f"{name} {arguments}" for name, arguments in once.calls] or once.texts
        seen.append((example.title, said[0]))
    assert [title for title, _ in seen] == [title for title, _ in ANSWERS]
    for (_, text), (_, begins) in zip(seen, ANSWERS, strict=True):
        assert text.startswith(begins)


@pytest.mark.parametrize("example", [*GUIDE, *fault_examples("run")], ids=lambda one: one.title)
def test_every_example_is_a_task_that_the_contract_takes(example: Example) -> None:
    task = parse_task(example.task)
    assert task.request == example.task["request"]
    assert task.vendor == example.task.get("vendor", "auto")


def test_the_streamed_example_streams_and_the_rest_come_whole() -> None:
    assert [example.title for example in GUIDE if parse_task(example.task).streaming] == [
        "Streaming responses"
    ]


@pytest.mark.parametrize("example", fault_examples("once"), ids=lambda one: one.title)
def test_a_fault_example_fails_once_and_then_goes_well(
    router: httpx.Client, example: Example
) -> None:
    def outcome() -> str:
        try:
            answer = send(router, example, stream="cut" in example.title)
        except httpx.RemoteProtocolError:
            return "cut"
        return f"{answer.status_code} {answer.headers.get('retry-after')}"

    failure = "cut" if "cut" in example.title else "429 2"
    assert [outcome() for _ in range(3)] == [failure, "200 None", "200 None"]


def test_two_runs_of_the_fault_examples_are_counted_apart() -> None:
    keys = [
        example.task["headers"]["x-simulate-key"]
        for run in ("a", "b")
        for example in fault_examples(run)
    ]
    assert len(set(keys)) == 4


def test_the_picture_is_a_whole_jpeg() -> None:
    picture = chessboard()
    assert image_type(picture) == "image/jpeg"
    assert picture.endswith(b"\xff\xd9")
    assert len(picture) == 178
