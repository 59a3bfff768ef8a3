"""What every dialect of the simulator translates from and to."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api_contracts.content import image_type
from api_contracts.errors import InvalidTask

JsonObject = dict[str, Any]
Checked = TypeVar("Checked", bound=BaseModel)

#: Tokens that one picture counts for: what OpenAI takes for one at low detail.
PICTURE_TOKENS = 85
#: Bytes of a picture's head that tell its type.
_HEAD = 12


class Refused(Exception):
    """The simulator answers with an error: status, what was wrong, and what to do."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        retry_info: str | None = None,
    ) -> None:
        """Keep the parts. ``retry_info`` is Gemini's wait, which travels in the body."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
        self.retry_info = retry_info


def check(model: type[Checked], body: object) -> Checked:
    """Read a body by its model; Refused(400) names the field and never quotes its value."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise Refused(400, str(InvalidTask.of(error))) from None


class Schema(BaseModel):
    """As much of a JSON Schema as making fitting arguments takes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str | list[str] | None = None
    properties: dict[str, SubSchema] = Field(default_factory=dict)
    required: list[str] = Field(default_factory=list)
    enum: list[Any] = Field(default_factory=list)
    items: SubSchema | None = None
    minimum: int | float | None = None


def _any(schema: object) -> object:
    """JSON Schema lets ``true`` stand for the schema that everything fits."""
    return {} if schema is True else schema


SubSchema = Annotated[Schema, BeforeValidator(_any)]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call, and what its arguments must be."""

    name: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in the last message. ``size`` is in bytes; a URL has neither type nor size."""

    mime: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, data: str, where: str) -> Picture:
        """Look at a picture in base64; Refused(400) where it is none."""
        try:
            image = base64.b64decode(data, validate=True)
        except ValueError:
            raise Refused(400, f"{where}: is not base64") from None
        mime = image_type(image[:_HEAD])
        if mime is None:
            raise Refused(400, f"{where}: the bytes are no PNG, JPEG, WebP or GIF image")
        return cls(mime, len(image))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request comes to, whichever dialect it was in.

    ``words`` is the text of the last message, ``results`` what tools answered in it. ``tools``
    are those that may be called now. ``limit`` is in tokens; a token is a word.
    """

    model: str
    words: str
    results: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    pictures: tuple[Picture, ...] = ()
    input_tokens: int = 0
    choices: int = 1
    limit: int | None = None
    stops: tuple[str, ...] = ()
    thinking: bool = False
    include_usage: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants made."""

    name: str
    arguments: JsonObject

    @property
    def text(self) -> str:
        """The arguments as JSON text."""
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says: ``pieces`` of text, one a token, or the calls that it wants made.

    ``stopped_by`` is the stop sequence that ended it.
    """

    pieces: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    thoughts: tuple[str, ...] = ()
    finish: Literal["end", "limit", "stop", "tools"] = "end"
    stopped_by: str | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        """Output tokens: pieces, thoughts, and the words of each call."""
        calls = sum(1 + len(call.text.split()) for call in self.calls)
        return len(self.pieces) + len(self.thoughts) + calls


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered call: what the writers need. ``created`` is in unix seconds."""

    call_id: str
    created: int
    prompt: Prompt
    replies: tuple[Reply, ...]

    @property
    def output_tokens(self) -> int:
        """Output tokens of all choices together."""
        return sum(reply.tokens for reply in self.replies)


@dataclass(frozen=True, slots=True)
class Frame:
    """One piece of a stream: its JSON text, and the event's name where the dialect has names.

    ``finish`` marks the frames that tell that the answer is complete.
    """

    data: bytes
    name: str = ""
    finish: bool = False

    @classmethod
    def of(cls, data: JsonObject, *, finish: bool = False) -> Frame:
        """Write an object as a frame; its ``type``, if any, is the event's name."""
        return cls(encode(data), str(data.get("type", "")), finish)


def encode(data: object) -> bytes:
    """Write JSON as the providers do: compact, in UTF-8."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def count_words(texts: list[str]) -> int:
    """Count the words of several texts."""
    return sum(len(text.split()) for text in texts)
