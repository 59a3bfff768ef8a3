"""The providers' own clients understand the simulator, and fold its streams to the whole answer."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts.need import need
from worker.demo.guide import GUIDE
from worker.demo.picture import chessboard

GOOGLE = "v1/projects/cognition/locations/us/publishers/google"
EXAMPLES = {example.title: example for example in GUIDE}
CLAUDE = {"vendor": "anthropic"}


def sdk(name: str) -> Any:
    """Import a provider's client: it is heavy, and a developer may lack it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        need(condition=False, reason=f"{name} is not installed")
        raise


@pytest.fixture
def openai(simulator: str) -> Iterator[Any]:
    make = sdk("openai").OpenAI
    with make(api_key="any", base_url=f"{simulator}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic(simulator: str) -> Iterator[Any]:
    make = sdk("anthropic").Anthropic
    with make(auth_token="any", base_url=simulator, max_retries=0) as client:
        yield client


@pytest.fixture
def gemini(simulator: str) -> Iterator[Any]:
    headers = {"Authorization": "Bearer any", "vendor": "google"}
    options = {"base_url": simulator, "api_version": GOOGLE, "headers": headers}
    client = sdk("google.genai").Client(api_key="any", http_options=options)
    yield client
    client.close()


def without_ids(message: Any) -> Any:
    """Leave out what is new in every call."""
    told = message.model_dump(exclude_none=True)
    for call in told.get("tool_calls", ()):
        del call["id"]
        call.pop("index", None)
    for block in told.get("content") or ():
        if isinstance(block, dict):
            block.pop("id", None)
    return {name: value for name, value in told.items() if name not in ("id", "parsed")}


@pytest.mark.parametrize(
    "title",
    [
        "Basic usage",
        "Multi-turn conversation",
        "Streaming responses",
        "Function calling",
        "Vision",
    ],
)
def test_openais_client_folds_a_stream_to_the_whole_answer(openai: Any, title: str) -> None:
    task = EXAMPLES[title].task
    request = {name: value for name, value in task["request"].items() if name != "stream"}
    headers = {"vendor": task.get("vendor", "auto")}
    whole = openai.chat.completions.create(**request, extra_headers=headers)
    usage = {"include_usage": True}
    with openai.chat.completions.stream(
        **request, stream_options=usage, extra_headers=headers
    ) as stream:
        folded = stream.get_final_completion()
    assert without_ids(folded.choices[0].message) == without_ids(whole.choices[0].message)
    assert folded.choices[0].finish_reason == whole.choices[0].finish_reason
    assert folded.usage == whole.usage


def test_openais_client_folds_several_choices(openai: Any) -> None:
    request = {**EXAMPLES["Basic usage"].task["request"], "n": 3}
    whole = openai.chat.completions.create(**request)
    with openai.chat.completions.stream(**request) as stream:
        folded = stream.get_final_completion()
    texts = [choice.message.content for choice in whole.choices]
    assert [choice.message.content for choice in folded.choices] == texts
    assert len(set(texts)) == 3


def test_openais_client_reads_embeddings_and_errors(openai: Any) -> None:
    vectors = openai.embeddings.create(model="e", input=["one", "two"]).data
    assert [len(one.embedding) for one in vectors] == [8, 8]
    faults = {"x-simulate": "status=429; retry-after=2"}
    with pytest.raises(sdk("openai").RateLimitError) as refusal:
        openai.embeddings.create(model="e", input="one", extra_headers=faults)
    assert refusal.value.response.headers["retry-after"] == "2"


@pytest.mark.parametrize("title", ["Claude: Messages API", "Tool use with Claude"])
@pytest.mark.parametrize("thinking", [False, True])
def test_anthropics_client_folds_a_stream_to_the_whole_answer(
    anthropic: Any, title: str, *, thinking: bool
) -> None:
    # The guide's own model is one that the client warns of.
    request = {**EXAMPLES[title].task["request"], "model": "claude", "extra_headers": CLAUDE}
    if thinking:
        request |= {"max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    whole = anthropic.messages.create(**request)
    with anthropic.messages.stream(**request) as stream:
        folded = stream.get_final_message()
    assert without_ids(folded) == without_ids(whole)
    assert (whole.content[0].type == "thinking") is thinking


def test_anthropics_client_takes_the_thinking_back_unchanged(anthropic: Any) -> None:
    request: dict[str, Any] = {
        "model": "claude",
        "max_tokens": 2048,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "extra_headers": CLAUDE,
    }
    messages: list[Any] = [{"role": "user", "content": "Tell me a joke."}]
    first = anthropic.messages.create(**request, messages=messages)
    messages += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": "Tell me another."},
    ]
    second = anthropic.messages.create(**request, messages=messages)
    assert second.content[-1].text.startswith("I asked my computer for a break.")


def test_anthropics_client_reads_an_error_inside_a_stream(anthropic: Any) -> None:
    request = EXAMPLES["Claude: Messages API"].task["request"]
    headers = {**CLAUDE, "x-simulate": "error=5"}
    with (
        pytest.raises(sdk("anthropic").APIStatusError, match="Overloaded"),
        anthropic.messages.stream(**request, extra_headers=headers) as stream,
    ):
        stream.get_final_message()


@pytest.mark.parametrize("title", ["Gemini: generate content", "Gemini: safety settings"])
def test_googles_client_reads_the_same_text_from_both(gemini: Any, title: str) -> None:
    request = EXAMPLES[title].task["request"]
    config = {"safety_settings": request.get("safetySettings")}
    asked = {"model": "gemini-pro", "contents": request["contents"], "config": config}
    whole = gemini.models.generate_content(**asked)
    chunks = list(gemini.models.generate_content_stream(**asked))
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert chunks[-1].candidates[0].finish_reason == whole.candidates[0].finish_reason == "STOP"
    used = [one.usage_metadata.candidates_token_count for one in (chunks[-1], whole)]
    assert used[0] == used[1] == len(whole.text.split())


def test_googles_client_calls_functions_and_sends_pictures(gemini: Any) -> None:
    types = sdk("google.genai.types")
    weather = types.FunctionDeclaration(
        name="get_weather",
        parameters={"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
    )
    config = {"tools": [types.Tool(function_declarations=[weather])]}
    asked: dict[str, Any] = {"model": "gemini-pro", "contents": "The weather in Oslo?"}
    whole = gemini.models.generate_content(**asked, config=config)
    [call] = whole.function_calls
    assert (call.name, call.args) == ("get_weather", {"city": "Oslo"})
    stream = gemini.models.generate_content_stream(**asked, config=config)
    assert [call.args for chunk in stream for call in chunk.function_calls or ()] == [call.args]
    picture = types.Part.from_bytes(data=chessboard(), mime_type="image/jpeg")
    seen = gemini.models.generate_content(model="gemini-pro", contents=[picture])
    assert seen.text == "There is one image here: a JPEG of 178 bytes."
    answer = types.Part.from_function_response(name="get_weather", response={"sky": "clear"})
    told = gemini.models.generate_content(
        model="gemini-pro",
        contents=[whole.candidates[0].content, types.Content(role="user", parts=[answer])],
    )
    assert told.text == "Here is what the tool found: sky is clear."
