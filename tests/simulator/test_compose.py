"""What the simulated model says."""

from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.simulator.compose import compose
from worker.simulator.conversation import Picture, Prompt, Schema, Tool

ASK = Prompt(model="m", words="What is the capital of France?")
OTHER = Prompt(model="m", words="Which way to the zygodactyl quincunx, please?")


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("That was a good one. Tell me another.", "I asked my computer for a break."),
        ("Tell me a potentially controversial joke.", "Tabs or spaces?"),
        ("Write a short poem about the ocean.", "The ocean hums a patient tune,\n"),
        ("Write a short story about a time-traveling historian.", "Dr. Inès Moreau"),
        ("Explain the concept of neural networks to a 5-year-old.", "Imagine a big room"),
        ("What is the weather like in San Francisco?", "I cannot look out of a window"),
    ],
)
def test_the_guides_questions_have_sensible_answers(words: str, begins: str) -> None:
    assert compose(Prompt("m", words)).text.startswith(begins)


@given(st.text(), st.integers(0, 7))
def test_the_same_question_always_has_the_same_answer(words: str, choice: int) -> None:
    prompt = Prompt("m", words)
    assert compose(prompt, choice) == compose(prompt, choice)
    assert compose(prompt, choice).text


def test_an_unknown_question_is_answered_without_repeating_it() -> None:
    text = compose(OTHER).text
    assert len(text.split()) > 20
    assert not {"zygodactyl", "quincunx"} & set(text.split())
    assert compose(replace(OTHER, words="Something else entirely")).text != text


def test_several_choices_differ() -> None:
    assert len({compose(ASK, choice).text for choice in range(3)}) == 3
    assert len({compose(OTHER, choice).text for choice in range(3)}) == 3


@given(st.integers(1, 200))
def test_the_token_limit_cuts_the_answer_and_says_so(limit: int) -> None:
    whole, cut = compose(OTHER), compose(replace(OTHER, limit=limit))
    assert whole.text.startswith(cut.text)
    assert len(cut.pieces) == min(limit, len(whole.pieces))
    assert cut.finish == ("limit" if limit < len(whole.pieces) else "end")


def test_a_stop_sequence_ends_the_answer_before_it_and_is_named() -> None:
    reply = compose(replace(ASK, stops=("never", " is", "Paris")))
    assert (reply.text, reply.finish, reply.stopped_by) == ("The capital of France", "stop", " is")


def test_the_limit_wins_where_it_comes_before_the_stop_sequence() -> None:
    reply = compose(replace(ASK, stops=("Paris",), limit=2))
    assert (reply.text, reply.finish) == ("The capital ", "limit")


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (
            '{"location": "Boston", "temperature": "10", "unit": "celsius"}',
            "It is 10 °C in Boston right now.",
        ),
        (
            '{"location": "Boston", "temperature": 50, "unit": "fahrenheit"}',
            "It is 50 °F in Boston right now.",
        ),
        (
            '{"location": "Boston", "temperature": "10", "unit": null}',
            "It is 10 degrees in Boston right now.",
        ),
        (
            '{"location": "San Francisco", "temperature": "15°C", "forecast": "Cloudy"}',
            "It is 15°C and cloudy in San Francisco right now.",
        ),
        (
            '{"location": "Atlantis", "temperature": "unknown"}',
            "I could not find out what the weather is like in Atlantis.",
        ),
        ('{"rows": 3, "ok": true}', "Here is what the tool found: rows is 3, ok is true."),
        ("[1, 2]", "The tool says: [1, 2]"),
        ("half past two", "The tool says: half past two"),
    ],
)
def test_a_tools_answer_is_told_in_plain_words(result: str, says: str) -> None:
    assert compose(replace(ASK, results=(result,))).text == says


def test_pictures_are_told_by_kind_size_and_number() -> None:
    several = (Picture("image/png", 1234), Picture("image/jpeg", 178), Picture())
    assert compose(replace(ASK, pictures=several)).text == (
        "There are 3 images here: a PNG of 1,234 bytes; a JPEG of 178 bytes; "
        "one at an https address, which I leave alone."
    )
    assert compose(replace(ASK, pictures=several[1:2])).text == (
        "There is one image here: a JPEG of 178 bytes."
    )


PLACE = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}


def tool(name: str, schema: dict[str, Any]) -> Tool:
    return Tool(name, Schema.model_validate(schema))


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ("What's the weather like in Boston, MA?", ["Boston, MA"]),
        ("What is the weather like in San Francisco?", ["San Francisco"]),
        ("The weather in Boston, MA and San Francisco?", ["Boston, MA", "San Francisco"]),
        ("Weather in Oslo and Oslo?", ["Oslo"]),
        ("How is the weather?", ["Paris, FR"]),
    ],
)
def test_a_tool_is_called_once_for_each_place_in_the_question(
    words: str, places: list[str]
) -> None:
    reply = compose(Prompt("m", words, tools=(tool("get_weather", PLACE),)))
    assert [call.arguments for call in reply.calls] == [{"location": place} for place in places]
    assert (reply.finish, reply.pieces) == ("tools", ())


def test_the_tool_nearest_to_the_question_is_called() -> None:
    tools = (tool("get_time", PLACE), tool("get_weather", PLACE), tool("send_mail", PLACE))
    assert compose(Prompt("m", "weather in Rome?", tools=tools)).calls[0].name == "get_weather"


@pytest.mark.parametrize(
    "schema",
    [
        PLACE,
        {"type": "object"},
        {"type": "object", "properties": {"any": True}},
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 3},
                "exact": {"type": "boolean"},
                "hours": {"type": "array", "items": {"type": "number"}},
                "tags": {"type": "array"},
                "near": {"type": "object", "properties": {"km": {"type": ["number", "null"]}}},
                "nothing": {"type": "null"},
            },
        },
    ],
)
def test_arguments_fit_the_tools_schema(schema: dict[str, Any]) -> None:
    reply = compose(Prompt("m", "Do it", tools=(tool("do", schema),)))
    jsonschema_rs.validator_for(schema).validate(reply.calls[0].arguments)
    assert set(reply.calls[0].arguments) == set(schema.get("properties", ()))
