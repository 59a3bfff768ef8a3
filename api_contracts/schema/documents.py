"""Build the JSON Schemas from the contract's own types. Pure: files are written elsewhere.

Pydantic writes the schemas; here they are made readable: a title says what a thing is and never
repeats a field's name, no default is null, and the word that tells kinds apart is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from api_contracts import jsontext
from api_contracts.chat import ChatParameters
from api_contracts.content import IMAGE_LIMIT
from api_contracts.errors import MEANINGS, ErrorCode, TaskError
from api_contracts.events import EVENT_LIMIT, Event, Stored
from api_contracts.fields import HEADERS_SIZE_LIMIT
from api_contracts.options import METADATA_LIMIT
from api_contracts.requests import BODY_LIMIT, Task
from api_contracts.results import Result, Status
from api_contracts.schema import examples

Schema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Where a schema file keeps its definitions, as pydantic's template has it.
_LOCAL: Final = "#/$defs/{model}"
#: Fields that tell the kinds of one union apart.
_TAGS: Final = ("kind", "type")

#: Words of pydantic's that say nothing to a reader; a default is put back where it is not null.
_NOISE: Final = ("discriminator", "default")
#: Words of a schema that a reader wants first.
_FIRST: Final = ("title", "description", "type", "required", "properties")
#: What the task's schema cannot say, and is refused all the same.
RULES: Final = f"""\
- `request` is at most {BODY_LIMIT} bytes of JSON, {jsontext.DEPTH_LIMIT} levels deep and \
{jsontext.VALUES_LIMIT} values; `options.metadata` at most {METADATA_LIMIT} bytes.
- No string holds half of a surrogate pair, and where an integer is asked for, the number is \
written without a point.
- Names of headers are compared without case, and `_` counts as `-`; none may stand twice; all \
together have at most {HEADERS_SIZE_LIMIT} bytes.
- The host of an image's URL is public: no local name, and no private address in any spelling. \
A data URL holds a PNG, JPEG, WebP or GIF picture, as its first bytes tell, of at most \
{IMAGE_LIMIT} bytes, in base64 without line breaks.
- The query of `path` carries no key (`key`, `api_key`, `apikey`, `access_token`, `token`).
- `options.stream` contradicts neither `request.stream` nor a `:streamGenerateContent` path, \
and a GET does not stream."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the contract, which gets a file of its own."""

    title: str
    text: str
    type: TypeAdapter[Any]
    examples: tuple[examples.Example, ...]


_PARTS: Final = {
    "task": _Part(
        title="Task",
        text="What the router shall be asked, and how. Our own fields are closed: one that "
        "nobody knows is refused. `request` is the router's, and keeps every field that it has. "
        "Refused as well, though this schema cannot say so:\n" + RULES,
        type=TypeAdapter(Annotated[Task, Field(discriminator="kind")]),
        examples=tuple(examples.TASKS.values()),
    ),
    "event": _Part(
        title="Event",
        text="What a subscriber sees, the same bytes on the channel and in the log. On the "
        f"channel an event has at most {EVENT_LIMIT} bytes: `stored` stands in place of a larger "
        "one. Exactly one ending (`completed`, `failed`, `cancelled` or `expired`) is the last. "
        "Where encryption is on, `sealed` stands in place of all that follows `at`.",
        type=TypeAdapter(Annotated[Event | Stored, Field(discriminator="type")]),
        examples=tuple(examples.EVENTS.values()),
    ),
    "result": _Part(
        title="Result",
        text="The answer: as the non-streaming call would have returned it, whichever way it "
        "came. The field `result` of a task's record has it as JSON.",
        type=TypeAdapter(Result),
        examples=(examples.RESULT,),
    ),
    "status": _Part(
        title="Status",
        text="What the record says of a task now.",
        type=TypeAdapter(Status),
        examples=(examples.STATUS,),
    ),
    "error": _Part(
        title="TaskError",
        text="Why a task, or one attempt of it, failed; as it stands in events and records.",
        type=TypeAdapter(TaskError),
        examples=tuple(examples.ERRORS.values()),
    ),
}


class _Untitled(GenerateJsonSchema):
    """Pydantic's own, but a field has no title: it has a name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the base's signature
        return False


def json_schemas() -> dict[str, Schema]:
    """Return each JSON Schema by the first part of its file's name."""
    return {name: _json_schema(name, part) for name, part in _PARTS.items()}


def _json_schema(name: str, part: _Part) -> Schema:
    schemas, definitions = generate({name: part.type}, _LOCAL)
    schema = schemas[name]
    if "$ref" in schema:
        schema = definitions.pop(schema["$ref"].rpartition("/")[2])
    head = {
        "$schema": _DIALECT,
        "$id": f"urn:router-worker:schema:{name}",
        "title": part.title,
        "description": part.text,
    }
    tail: Schema = {"examples": list(part.examples)}
    if definitions:
        tail["$defs"] = definitions
    return head | {key: schema[key] for key in schema if key not in head} | tail


def components(reference: str) -> dict[str, Schema]:
    """Return every schema of the contract by its name, with references as the template says."""
    schemas, definitions = generate({p.title: p.type for p in _PARTS.values()}, reference)
    named = {title: schema for title, schema in schemas.items() if title not in definitions}
    return dict(sorted((definitions | named).items()))


def generate(
    types: Mapping[str, TypeAdapter[Any]], reference: str
) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Return the schema of each type, and the definitions that these refer to, by name."""
    by_key, shared = TypeAdapter.json_schemas(
        [(name, "validation", one) for name, one in types.items()],
        ref_template=reference,
        schema_generator=_Untitled,
    )
    definitions = {name: _readable(one) for name, one in shared.get("$defs", {}).items()}
    if ErrorCode.__name__ in definitions:
        code = definitions[ErrorCode.__name__]
        code["description"] += "".join(f"\n- `{c}`: {text}" for c, text in MEANINGS.items())
    found: dict[str, Schema] = {}
    definitions = {n: _moved(one, found, reference) for n, one in definitions.items()} | found
    schemas = {name: _readable(by_key[name, "validation"]) for name in types}
    return schemas, dict(sorted(definitions.items()))


def _readable(node: Any) -> Any:
    """Drop what is noise to a reader, and put first what a reader wants first."""
    if isinstance(node, list):
        return [_readable(one) for one in node]
    if not isinstance(node, dict):
        return node
    order = sorted(node, key=lambda word: _FIRST.index(word) if word in _FIRST else len(_FIRST))
    out = {word: _readable(node[word]) for word in order if word not in _NOISE}
    if node.get("default") is not None:
        out["default"] = node["default"]
    if "properties" in node:
        out["properties"] = {name: _readable(one) for name, one in node["properties"].items()}
    if "description" in node:
        out["description"] = node["description"].replace("``", "`")
    return _tagged(out) if "title" in out else out


def _tagged(schema: Schema) -> Schema:
    """Require the word that tells kinds apart, and show it first."""
    properties = schema.get("properties", {})
    tags = [tag for tag in _TAGS if "const" in properties.get(tag, ())]
    if not tags:
        return schema
    shown = {tag: {"const": properties[tag]["const"]} for tag in tags}
    return {
        **schema,
        "required": [*tags, *schema["required"]],
        "properties": shown | {n: one for n, one in properties.items() if n not in tags},
    }


def _moved(node: Any, found: dict[str, Schema], reference: str) -> Any:
    """Put the chat parameters, which pydantic writes out at each place, among the definitions."""
    if isinstance(node, list):
        return [_moved(one, found, reference) for one in node]
    if not isinstance(node, dict):
        return node
    name = ChatParameters.__name__
    if node.get("title") == name:
        text = (ChatParameters.__doc__ or "").replace("\n\n    ", " ")
        found[name] = {**node, "description": text}
        return {"$ref": reference.format(model=name)}
    return {key: _moved(value, found, reference) for key, value in node.items()}
