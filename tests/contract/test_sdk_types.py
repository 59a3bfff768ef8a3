"""The official SDKs' own types and accumulators, against what we publish and what we fold.

Whoever reads our chunks with an SDK's types must be able to; and where an SDK can put a stream
together itself, it must come to what our fold comes to.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from tests.parts.need import need
from tests.protocols.transcripts import WHOLE, Transcript, name_of

#: Streams with what only some provider or no provider yet sends: the SDKs' types refuse it, or
#: their accumulators drop or garble it. (Calls that share an index, parts in unknown places,
#: blocks that nobody knows, half a character.)
BEYOND_TYPES: Final = {"anthropic/unknown.sse"}
BEYOND_ACCUMULATORS: Final = {
    "openai/one-index.sse": "joins the arguments of two calls",
    "openai/unknown-fields.sse": "adds up audio's expiry, keeps no unknown list",
    "openai/two-choices.sse": "puts choices where they come, with none in between",
    "openai/no-done.sse": "takes id and model from the first chunk, which Azure leaves empty",
    "openai/half-characters.sse": "keeps the halves apart",
    "anthropic/half-a-tool.sse": "shows half a call as if it were whole",
}


def sdk(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        need(condition=False, reason=f"the SDK `{name}` is not installed: run `make test`")


def of(protocol: str) -> list[Transcript]:
    return [one for one in WHOLE if one.path.parent.name == protocol]


def known(ours: Any, theirs: Any) -> Any:
    """Reduce our value to the fields that theirs has: their types add nulls of their own."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        both = ours.keys() | {key for key, value in theirs.items() if value is not None}
        return {key: known(ours.get(key), theirs.get(key)) for key in both}
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [known(a, b) for a, b in zip(ours, theirs, strict=True)]
    return ours


def bare(value: Any) -> Any:
    """Leave out what is null: whether an SDK writes a null is no part of an answer."""
    if isinstance(value, dict):
        return {key: bare(part) for key, part in value.items() if part is not None}
    return [bare(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("transcript", of("openai"), ids=name_of)
def test_openai_takes_our_chunks_and_our_answer(transcript: Transcript) -> None:
    chat = sdk("openai.types.chat")
    for chunk in transcript.published():
        assert chat.ChatCompletionChunk.model_construct(**chunk).id == chunk["id"]
        if chunk["object"]:  # Azure's first chunk says nothing, not even its name
            chat.ChatCompletionChunk.model_validate(chunk)
    chat.ChatCompletion.model_validate(transcript.expected["response"])


@pytest.mark.parametrize("transcript", of("openai"), ids=name_of)
def test_openais_accumulator_comes_to_our_answer(transcript: Transcript) -> None:
    if transcript.name in BEYOND_ACCUMULATORS:
        return
    chat = sdk("openai.types.chat")
    state = sdk("openai.lib.streaming.chat").ChatCompletionStreamState()
    for chunk in transcript.published():
        state.handle_chunk(chat.ChatCompletionChunk.model_validate(chunk))
    theirs = state.get_final_completion().to_dict()
    assert theirs == transcript.expected["response"]
