"""The Gemini dialect. Shapes and rules: the Gemini API reference, "Generating content"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from worker.simulator.conversation import (
    PICTURE_TOKENS,
    Answer,
    Frame,
    JsonObject,
    Picture,
    Prompt,
    Refused,
    Reply,
    Schema,
    Tool,
    check,
    count_words,
)

NATIVE: Final = True
#: Status of an overloaded provider.
OVERLOADED: Final = 503

_FINISH: Final = {"end": "STOP", "stop": "STOP", "limit": "MAX_TOKENS", "tools": "STOP"}
#: google.rpc.Code of an HTTP status, as Google's API design guide maps them.
_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
#: From base64's URL-safe alphabet to its other one.
_URL_SAFE: Final = str.maketrans("-_", "+/")


def _either(camel: str, snake: str) -> Any:
    """Return a field that may be written in both ways, as protobuf's JSON may."""
    return Field(default=None, validation_alias=AliasChoices(camel, snake))


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Blob(_Read):
    data: str


class _FunctionResponse(_Read):
    name: str
    response: JsonObject = Field(default_factory=dict)


class _Part(_Read):
    text: str = ""
    blob: _Blob | None = _either("inlineData", "inline_data")
    file: JsonObject | None = _either("fileData", "file_data")
    answered: _FunctionResponse | None = _either("functionResponse", "function_response")


class _Content(_Read):
    role: Literal["user", "model", "function"] = "user"
    parts: Annotated[list[_Part], Field(min_length=1)]

    @property
    def texts(self) -> list[str]:
        """What the parts say."""
        return [part.text for part in self.parts if part.text]


class _System(_Read):
    parts: list[_Part] = Field(default_factory=list)


class _Function(_Read):
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,127}$")]
    parameters: Schema | None = None
    json_schema: Schema | None = _either("parametersJsonSchema", "parameters_json_schema")


class _Tool(_Read):
    functions: list[_Function] | None = _either("functionDeclarations", "function_declarations")


class _Calling(_Read):
    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"] = "AUTO"
    allowed: list[str] | None = _either("allowedFunctionNames", "allowed_function_names")


class _ToolConfig(_Read):
    calling: _Calling | None = _either("functionCallingConfig", "function_calling_config")


class _Config(_Read):
    limit: Annotated[int, Field(ge=1)] | None = _either("maxOutputTokens", "max_output_tokens")
    stops: list[str] | None = _either("stopSequences", "stop_sequences")
    choices: Annotated[int, Field(ge=1, le=8)] | None = _either("candidateCount", "candidate_count")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None


class _Safety(_Read):
    category: Annotated[str, Field(pattern=r"^HARM_CATEGORY_[A-Z_]+$")]
    threshold: Literal[
        "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
        "BLOCK_LOW_AND_ABOVE",
        "BLOCK_MEDIUM_AND_ABOVE",
        "BLOCK_ONLY_HIGH",
        "BLOCK_NONE",
        "OFF",
    ]


class _Request(_Read):
    model: str
    contents: Annotated[list[_Content], Field(min_length=1)]
    system: _System | None = _either("systemInstruction", "system_instruction")
    config: _Config | None = _either("generationConfig", "generation_config")
    safety: list[_Safety] | None = _either("safetySettings", "safety_settings")
    tools: list[_Tool] = Field(default_factory=list)
    tool_config: _ToolConfig | None = _either("toolConfig", "tool_config")


def read(body: JsonObject) -> Prompt:
    """Read a ``generateContent`` request; Refused(400) where Gemini would refuse it.

    ``body["model"]`` is the model that the path names.
    """
    asked = check(_Request, body)
    config = asked.config or _Config()
    last = asked.contents[-1]
    system = asked.system.parts if asked.system else []
    texts = [part.text for part in system]
    texts += [text for content in asked.contents for text in content.texts]
    pictures = tuple(_pictures(last))
    answered = [part.answered for part in last.parts if part.answered is not None]
    return Prompt(
        model=asked.model,
        words="\n".join(last.texts),
        results=tuple(json.dumps(one.response, ensure_ascii=False) for one in answered),
        tools=_tools(asked),
        pictures=pictures,
        input_tokens=count_words(texts) + PICTURE_TOKENS * len(pictures),
        choices=config.choices or 1,
        limit=config.limit,
        stops=tuple(config.stops or ()),
    )


def _pictures(content: _Content) -> Iterator[Picture]:
    """Yield the pictures. Protobuf's JSON takes both alphabets of base64, padded or not."""
    for part in content.parts:
        if part.blob is not None:
            data = part.blob.data.translate(_URL_SAFE).rstrip("=")
            yield Picture.of(data + "=" * (-len(data) % 4), "inlineData.data")
        elif part.file is not None:
            yield Picture()


def _tools(asked: _Request) -> tuple[Tool, ...]:
    """Return the functions that ``toolConfig`` leaves."""
    calling = (asked.tool_config and asked.tool_config.calling) or _Calling()
    if calling.mode == "NONE":
        return ()
    functions = [function for tool in asked.tools for function in tool.functions or ()]
    if calling.allowed:
        functions = [function for function in functions if function.name in calling.allowed]
        if not functions:
            raise Refused(400, "allowedFunctionNames: names none of the functions on offer")
    return tuple(
        Tool(function.name, function.parameters or function.json_schema or Schema())
        for function in functions
    )


def whole(answer: Answer) -> JsonObject:
    """Write the answer as one ``GenerateContentResponse``."""
    candidates = [
        {
            "content": {"parts": _parts(reply), "role": "model"},
            "finishReason": _FINISH[reply.finish],
            "index": index,
        }
        for index, reply in enumerate(answer.replies)
    ]
    return _response(answer, candidates, answer.output_tokens)


def _parts(reply: Reply) -> list[JsonObject]:
    if not reply.calls:
        return [{"text": reply.text}]
    return [{"functionCall": {"name": call.name, "args": call.arguments}} for call in reply.calls]


def _response(answer: Answer, candidates: list[JsonObject], output: int | None) -> JsonObject:
    """Write one response. Its usage has the output only where that is known: at the end."""
    prompt = answer.prompt.input_tokens
    usage = {"promptTokenCount": prompt, "totalTokenCount": prompt + (output or 0)}
    if output is not None:
        usage["candidatesTokenCount"] = output
    return {
        "candidates": candidates,
        "usageMetadata": usage,
        "modelVersion": answer.prompt.model,
        "responseId": answer.call_id,
    }


def frames(answer: Answer) -> tuple[Frame, ...]:
    """Write the answer as a stream's responses, each a whole one; candidates take turns."""
    each = [_pieces(reply) for reply in answer.replies]
    turns = chain.from_iterable(
        [(index, part) for index, part in enumerate(turn) if part is not None]
        for turn in zip_longest(*each)
    )
    sent = [Frame.of(_response(answer, [_candidate(index, part)], None)) for index, part in turns]
    ends: list[JsonObject] = [
        {"finishReason": _FINISH[reply.finish], "index": index}
        for index, reply in enumerate(answer.replies)
    ]
    return (*sent, Frame.of(_response(answer, ends, answer.output_tokens), finish=True))


def _pieces(reply: Reply) -> list[JsonObject]:
    return _parts(reply) if reply.calls else [{"text": piece} for piece in reply.pieces]


def _candidate(index: int, part: JsonObject) -> JsonObject:
    return {"content": {"parts": [part], "role": "model"}, "index": index}


def error(refused: Refused, _call_id: str) -> JsonObject:
    """Write an error in Google's shape; a wait stands in its details."""
    status = _STATUSES.get(refused.status, "UNKNOWN")
    fault: JsonObject = {"code": refused.status, "message": refused.message, "status": status}
    if refused.retry_info is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        fault["details"] = [{"@type": kind, "retryDelay": refused.retry_info}]
    return {"error": fault}
