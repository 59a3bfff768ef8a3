"""What a call costs, and which tables are none."""

import pytest

from api_contracts.results import Usage
from worker.prices import MODELS_LIMIT, Price, read_prices

TABLE = b'{"gpt-4o": {"input": 2.5, "cached": 1.25, "output": 10}, "x": {"input": 1, "output": 2}}'


def usage(**tokens: int | None) -> Usage:
    return Usage(provenance="reported", **tokens)


@pytest.mark.parametrize(
    ("model", "tokens", "dollars"),
    [
        ("gpt-4o", {"input_tokens": 1_000_000, "output_tokens": 100_000}, 3.5),
        ("gpt-4o", {"input_tokens": 1000, "cached_tokens": 400, "output_tokens": 0}, 0.002),
        ("gpt-4o", {"input_tokens": 1000, "cached_tokens": 4000}, 0.00125),  # more than there are
        ("x", {"input_tokens": 1000, "cached_tokens": 400}, 0.001),
        ("x", {"output_tokens": 500_000, "reasoning_tokens": 400_000}, 1.0),
        ("x", {}, 0.0),
    ],
)
def test_a_call_costs_its_tokens(model: str, tokens: dict[str, int], dollars: float) -> None:
    assert read_prices(TABLE)[model].cost(usage(**tokens)) == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "the file: Invalid JSON"),
        (b"[]", "the file: Input should be an object"),
        (b'{"gpt-4o": {"input": 1}}', "gpt-4o.output: Field required"),
        (b'{"gpt-4o": {"input": -1, "output": 1}}', "gpt-4o.input: Input should be greater"),
        (b'{"gpt-4o": {"input": 1, "output": 1, "image": 1}}', "gpt-4o.image: Extra inputs"),
        (b"{%b}" % b",".join(b'"m%d":{"input":1,"output":1}' % n for n in range(MODELS_LIMIT + 1)),
         "has 101 models"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_its_place(text: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_prices(text)


def test_an_empty_table_has_no_prices() -> None:
    assert read_prices(b"{}") == {}
    assert Price(input=0, output=0).cost(usage(input_tokens=5)) == 0
