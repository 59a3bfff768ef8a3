"""What the simulated model says to a prompt: pure, and always the same.

1. A tool has answered: say in plain words what it found.
2. Tools are on offer: call the one that fits best.
3. There are pictures: tell what they are.
4. A known question: its answer. Anything else: a paragraph chosen by the question's digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from itertools import count
from typing import Any

from worker.simulator.conversation import JsonObject, Picture, Prompt, Reply, Schema, Tool, ToolCall
from worker.simulator.lines import SCRIPTED, SENTENCES, THOUGHT

#: Sentences of an answer to an unknown question: at least, and how many more at most.
_FEWEST, _MORE = 4, 3
#: Most calls in one reply: one for each place named in the question.
_MOST_CALLS = 4
#: The place asked about where the question names none.
_SOMEWHERE = "Paris, FR"
#: Names of an argument that wants a place.
_PLACE_NAMES = ("location", "place", "city", "town")
_PLACE = re.compile(r"\b(?:in|at|for|and) ([A-Z][\w'’-]*(?: [A-Z][\w'’-]*)*(?:, [A-Z]{2}\b)?)")
_PIECES = re.compile(r"\s*\S+\s*")
_UNITS = {"celsius": " °C", "fahrenheit": " °F"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def compose(prompt: Prompt, choice: int = 0) -> Reply:
    """Return the model's reply; ``choice`` numbers the alternatives, from 0."""
    thoughts = _cut(THOUGHT) if prompt.thinking else ()
    if prompt.tools and not prompt.results:
        return Reply(calls=_calls(prompt), thoughts=thoughts, finish="tools")
    return _finish(_text(prompt, choice), thoughts, prompt)


def _text(prompt: Prompt, choice: int) -> str:
    if prompt.results:
        return " ".join(_report(result) for result in prompt.results)
    if prompt.pictures:
        return _describe(prompt.pictures)
    asked = prompt.words.lower()
    for words, answers in SCRIPTED:
        if all(word in asked for word in words):
            return answers[choice % len(answers)]
    return _paragraph(prompt.words, choice)


def _paragraph(words: str, choice: int) -> str:
    """Choose sentences by the digest of the question, none of them twice."""
    digest = hashlib.sha256(f"{choice} {words}".encode()).digest()
    ranked = sorted(range(len(SENTENCES)), key=lambda place: digest[place])
    return " ".join(SENTENCES[place] for place in ranked[: _FEWEST + digest[-1] % _MORE])


def _cut(text: str) -> tuple[str, ...]:
    """Cut a text into tokens: words with the white space around them."""
    return tuple(_PIECES.findall(text))


def _finish(text: str, thoughts: tuple[str, ...], prompt: Prompt) -> Reply:
    """End the text where a stop sequence or the token limit, whichever comes first, ends it."""
    found = [(text.find(stop), stop) for stop in prompt.stops if stop and stop in text]
    end, stop = min(found, default=(len(text), None))
    pieces = _cut(text[:end])
    room = len(pieces) if prompt.limit is None else max(prompt.limit - len(thoughts), 0)
    if room < len(pieces):
        return Reply(pieces[:room], thoughts=thoughts, finish="limit")
    return Reply(pieces, (), thoughts, "end" if stop is None else "stop", stop)


def _describe(pictures: tuple[Picture, ...]) -> str:
    several = len(pictures) > 1
    head = f"There are {len(pictures)} images here" if several else "There is one image here"
    return f"{head}: {'; '.join(_look(picture) for picture in pictures)}."


def _look(picture: Picture) -> str:
    if picture.mime is None:
        return "one at an https address, which I leave alone"
    kind = picture.mime.removeprefix("image/").upper()
    return f"a {kind} of {picture.size:,} bytes"


def _report(result: str) -> str:
    """Say in words what a tool answered: the weather if it is that, else each field."""
    try:
        found = json.loads(result)
    except ValueError:
        return f"The tool says: {result}"
    if not isinstance(found, dict):
        return f"The tool says: {result}"
    if "temperature" in found and "location" in found:
        return _weather(found)
    facts = ", ".join(f"{name} is {_plain(value)}" for name, value in found.items())
    return f"Here is what the tool found: {facts}."


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _weather(found: JsonObject) -> str:
    place, degrees = _plain(found["location"]), _plain(found["temperature"])
    if degrees == "unknown":
        return f"I could not find out what the weather is like in {place}."
    if _NUMBER.fullmatch(degrees):
        degrees += _UNITS.get(str(found.get("unit")), " degrees")
    sky = f" and {_plain(found['forecast']).lower()}" if "forecast" in found else ""
    return f"It is {degrees}{sky} in {place} right now."


def _calls(prompt: Prompt) -> tuple[ToolCall, ...]:
    """Call the tool whose name is nearest to the question, once for each place in it."""
    asked = prompt.words.lower()

    def nearness(tool: Tool) -> int:
        return sum(word in asked for word in tool.name.lower().split("_"))

    tool = max(prompt.tools, key=nearness)
    places = _PLACE.findall(prompt.words)[:_MOST_CALLS] or [_SOMEWHERE]
    filled = [_fill(tool.schema, place) for place in places]
    distinct = [value for at, value in zip(count(), filled) if value not in filled[:at]]
    return tuple(ToolCall(tool.name, value) for value in distinct)


def _fill(schema: Schema, place: str) -> JsonObject:
    """Make arguments that fit an object's schema: what it requires, and what it lists values for.

    Where nothing is required, every property is filled.
    """
    wanted = schema.required or list(schema.properties)
    return {
        name: _value(part, name, place)
        for name, part in schema.properties.items()
        if name in wanted or part.enum
    }


def _value(schema: Schema, name: str, place: str) -> Any:
    """Make a value that fits a schema; Gemini writes the types in capitals."""
    if schema.enum:
        return schema.enum[0]
    kind = schema.type[0] if isinstance(schema.type, list) and schema.type else schema.type
    text = place if any(word in name.lower() for word in _PLACE_NAMES) else "example"
    made: dict[str, Callable[[], Any]] = {
        "object": lambda: _fill(schema, place),
        "array": lambda: [_value(schema.items or Schema(), name, place)],
        "integer": lambda: 1 if schema.minimum is None else schema.minimum,
        "number": lambda: 1 if schema.minimum is None else schema.minimum,
        "boolean": lambda: True,
        "null": lambda: None,
    }
    return made.get(str(kind).lower(), lambda: text)()
