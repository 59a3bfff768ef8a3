"""What an answer says, read in the plainest way from either form of each dialect."""

import json
from collections import defaultdict
from typing import Any, NamedTuple


class Saying(NamedTuple):
    """The same for a stream and for the answer in one piece, if the simulator keeps its word."""

    texts: tuple[str, ...]
    calls: tuple[tuple[str, Any], ...]
    finish: tuple[str, ...]
    output_tokens: int
    thinking: str = ""


def events(stream: str) -> list[Any]:
    """The JSON of each server-sent event."""
    lines = (line.strip("\r") for line in stream.split("\n"))
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(text) for text in data if text != "[DONE]"]


def openai_whole(answer: Any) -> Saying:
    choices = answer["choices"]
    calls = [call["function"] for one in choices for call in one["message"].get("tool_calls", ())]
    return Saying(
        tuple(one["message"]["content"] or "" for one in choices),
        tuple((call["name"], json.loads(call["arguments"])) for call in calls),
        tuple(one["finish_reason"] for one in choices),
        answer["usage"]["completion_tokens"],
    )


def openai_stream(chunks: list[Any]) -> Saying:
    texts: defaultdict[int, str] = defaultdict(str)
    names: dict[int, str] = {}
    arguments: defaultdict[int, str] = defaultdict(str)
    finish = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["delta"].get("content") or ""
        if choice["finish_reason"]:
            finish[choice["index"]] = choice["finish_reason"]
        for call in choice["delta"].get("tool_calls", ()):
            names.setdefault(call["index"], call["function"].get("name", ""))
            arguments[call["index"]] += call["function"]["arguments"]
    return Saying(
        tuple(texts[index] for index in sorted(texts)),
        tuple((names[index], json.loads(arguments[index])) for index in sorted(names)),
        tuple(finish[index] for index in sorted(finish)),
        chunks[-1]["usage"]["completion_tokens"],
    )


def anthropic_whole(answer: Any) -> Saying:
    blocks = answer["content"]
    return Saying(
        ("".join(block.get("text", "") for block in blocks),),
        tuple((block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        (answer["stop_reason"],),
        answer["usage"]["output_tokens"],
        "".join(block.get("thinking", "") + block.get("signature", "") for block in blocks),
    )


def anthropic_stream(sent: list[Any]) -> Saying:
    blocks: dict[int, Any] = {}
    partial: defaultdict[int, str] = defaultdict(str)
    last = next(event for event in sent if event["type"] == "message_delta")
    for event in sent:
        if event["type"] == "content_block_start":
            blocks[event["index"]] = dict(event["content_block"])
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            partial[event["index"]] += delta.get("partial_json", "")
            for name in {"text", "thinking", "signature"} & delta.keys():
                blocks[event["index"]][name] += delta[name]
    for index, text in partial.items():
        if text:
            blocks[index]["input"] = json.loads(text)
    whole = {"content": list(blocks.values()), **last["delta"], "usage": last["usage"]}
    return anthropic_whole(whole)


def gemini_whole(answer: Any) -> Saying:
    candidates = answer["candidates"]
    parts = [part for one in candidates for part in one["content"]["parts"]]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    return Saying(
        tuple("".join(p.get("text", "") for p in one["content"]["parts"]) for one in candidates),
        tuple((call["name"], call["args"]) for call in calls),
        tuple(one["finishReason"] for one in candidates),
        answer["usageMetadata"]["candidatesTokenCount"],
    )


def gemini_stream(sent: list[Any]) -> Saying:
    parts: defaultdict[int, list[Any]] = defaultdict(list)
    finish = {}
    for candidate in (one for response in sent for one in response["candidates"]):
        parts[candidate["index"]] += candidate.get("content", {}).get("parts", [])
        if "finishReason" in candidate:
            finish[candidate["index"]] = candidate["finishReason"]
    candidates = [
        {"content": {"parts": parts[index]}, "finishReason": finish[index]}
        for index in sorted(finish)
    ]
    return gemini_whole({"candidates": candidates, "usageMetadata": sent[-1]["usageMetadata"]})
