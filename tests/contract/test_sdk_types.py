"""The official SDKs' own types and accumulators, against what we publish and what we fold.

Whoever reads our chunks with an SDK's types must be able to; and where an SDK can put a stream
together itself, it must come to what our fold comes to. The streams that are left out, and why,
stand in two tables.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from tests.parts.need import need
from tests.protocols.transcripts import WHOLE, Transcript, name_of

#: The types refuse these by design of the stream.
BEYOND_TYPES: Final = {
    "anthropic/unknown.sse": "has events and blocks that nobody knows",
    "gemini/recorded-tools.sse": "has a finish reason of aimock's own",
    "openai/no-done.sse": "begins with Azure's chunk that has no object",
}
#: The accumulators come to something else.
BEYOND_ACCUMULATORS: Final = {
    **BEYOND_TYPES,
    "anthropic/half-a-tool.sse": "the SDK shows half a call as if it were whole",
    "openai/half-characters.sse": "the SDK leaves a half that no JSON can be written with",
    "openai/one-index.sse": "the SDK joins two calls that share an index",
    "openai/unknown-fields.sse": "the SDK raises at a list without an index",
}


def sdk(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        need(condition=False, reason=f"{module} is not installed: run `make test`")


def of(protocol: str, *, but: dict[str, str]) -> pytest.MarkDecorator:
    chosen = [one for one in WHOLE if one.path.parent.name == protocol and one.name not in but]
    return pytest.mark.parametrize("transcript", chosen, ids=name_of)


def bare(value: Any) -> Any:
    """Leave out what is null: whether an SDK writes a null is no part of an answer."""
    if isinstance(value, dict):
        return {key: bare(part) for key, part in value.items() if part is not None}
    return [bare(part) for part in value] if isinstance(value, list) else value


@of("openai", but=BEYOND_TYPES)
def test_openais_types_take_our_chunks_and_our_answer(transcript: Transcript) -> None:
    chat = sdk("openai.types.chat")
    for chunk in transcript.published():
        assert chat.ChatCompletionChunk.model_validate(chunk).to_dict() == chunk
    answer = chat.ChatCompletion.model_validate(transcript.expected["response"])
    assert answer.to_dict() == transcript.expected["response"]


@of("openai", but=BEYOND_ACCUMULATORS)
def test_openais_accumulator_comes_to_our_answer(transcript: Transcript) -> None:
    chat = sdk("openai.types.chat")
    state = sdk("openai.lib.streaming.chat").ChatCompletionStreamState()
    for chunk in transcript.published():
        state.handle_chunk(chat.ChatCompletionChunk.model_validate(chunk))
    theirs = state.current_completion_snapshot.to_dict()
    for choice in theirs["choices"]:
        for call in choice["message"].get("tool_calls") or ():
            del call["index"]  # the whole call's answer has none
    assert bare(theirs) == bare(transcript.expected["response"])


@of("anthropic", but=BEYOND_TYPES)
def test_anthropics_types_take_our_chunks_and_our_answer(transcript: Transcript) -> None:
    types = sdk("anthropic.types")
    event: TypeAdapter[Any] = TypeAdapter(types.RawMessageStreamEvent)
    for chunk in transcript.published():
        assert event.validate_python(chunk).type == chunk["type"]
    answer = types.Message.model_validate(transcript.expected["response"])
    assert bare(answer.to_dict()) == bare(transcript.expected["response"])


@of("anthropic", but=BEYOND_ACCUMULATORS)
def test_anthropics_accumulator_comes_to_our_answer(transcript: Transcript) -> None:
    accumulate = sdk("anthropic.lib.streaming._messages").accumulate_event
    types = sdk("anthropic.types")
    event: TypeAdapter[Any] = TypeAdapter(types.RawMessageStreamEvent)
    snapshot = None
    texts: dict[int, bytes] = {}
    for chunk in transcript.published():
        snapshot = accumulate(
            event=event.validate_python(chunk), current_snapshot=snapshot, json_bufs=texts
        )
    assert snapshot is not None
    assert bare(snapshot.to_dict()) == bare(transcript.expected["response"])


@of("gemini", but=BEYOND_TYPES)
def test_geminis_types_take_our_chunks_and_our_answer(transcript: Transcript) -> None:
    response = sdk("google.genai.types").GenerateContentResponse
    texts = [response.model_validate(chunk).text or "" for chunk in transcript.published()]
    answer = response.model_validate(transcript.expected["response"])
    # What an SDK's user reads of the chunks is what he reads of the whole.
    assert "".join(texts) == (answer.text or "")
    assert len(answer.candidates) == len(transcript.expected["response"]["candidates"])
