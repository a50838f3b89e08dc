"""What a call costs: by given prices, and by the public list."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch import listed, per_million, prices
from resilient_infe.core.verdict import Usage
from resilient_infe.errors import ConfigurationError

COUNTS = st.integers(0, 2**32 - 1)


@given(COUNTS, COUNTS, st.floats(0, 1))
def test_given_prices(prompt, completion, share):
    """Cached input has its own price, or that of input; nothing is below 0."""
    usage = Usage(prompt, completion, prompt + completion, int(prompt * share))
    plain, cached = per_million(2.0, 8.0), per_million(2.0, 8.0, 0.5)
    assert plain("m", usage) == pytest.approx((prompt * 2.0 + completion * 8.0) / 1e6)
    assert 0.0 <= cached("m", usage) <= plain("m", usage) + 1e-9


class List:
    """Stands for the list: one model of one provider, dearer above 200,000 tokens."""

    def __init__(self):
        self.asked = 0

    def calc_price(self, usage, model, provider_api_url=None):
        """Return a price, or raise as the list does."""
        self.asked += 1
        if model != "m" or provider_api_url not in (None, "https://h/v1"):
            raise LookupError(model)
        fields = {"output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0,
                  "input_tokens": 0} | usage.fields  # fmt: skip
        factor = 2.0 if fields["input_tokens"] > 200_000 else 1.0
        plain = fields["input_tokens"] - fields["cache_read_tokens"] - fields["cache_write_tokens"]
        dollars = plain * 3 + fields["output_tokens"] * 15 + fields["cache_read_tokens"] * 0.3
        return SimpleNamespace(total_price=(dollars + fields["cache_write_tokens"] * 3.75) * factor)


@pytest.fixture
def known(monkeypatch):
    """The list, installed."""
    found, module = List(), ModuleType("genai_prices")
    module.calc_price = found.calc_price
    module.Usage = lambda **fields: SimpleNamespace(fields=fields)
    monkeypatch.setitem(sys.modules, "genai_prices", module)
    monkeypatch.setattr(prices, "has_list", lambda: True)
    return found


def test_the_list_is_asked_once_a_model(known):
    """A call costs what the list says of its tokens, whatever they are, and asks only if long."""
    price = listed("https://h/v1")
    assert price("m", Usage(1_000, 100, 1_100, 400, 100)) == pytest.approx(
        500 * 3 + 100 * 15 + 400 * 0.3 + 100 * 3.75
    )
    asked = known.asked
    assert price("m", Usage(10, 0, 10)) == pytest.approx(30)
    assert known.asked == asked
    assert price("m", Usage(300_000, 0, 300_000)) == pytest.approx(1_800_000)
    assert known.asked == asked + 1


def test_what_the_list_does_not_know(known):
    """An unknown model has no price; a known one has at another provider's address, too."""
    assert listed()("other", Usage(1, 1, 2)) is None
    assert listed()(None, Usage(1, 1, 2)) is None
    assert listed("https://elsewhere/v1")("m", Usage(10, 0, 10)) == pytest.approx(30)


def test_without_the_list(monkeypatch):
    """It is said what is missing."""
    monkeypatch.setattr(prices, "has_list", lambda: False)
    with pytest.raises(ConfigurationError, match=r"\[prices\]"):
        listed()


def test_the_list_itself():
    """The real one is read as this library takes it to be, cached input at its own price."""
    pytest.importorskip("genai_prices")
    price = listed("https://api.openai.com/v1")
    whole, cached = (price("gpt-4o-mini", Usage(1_000, 100, 1_100, read)) for read in (0, 1_000))
    assert 0 < cached < whole < 0.01
    assert price("infe-pulse", Usage(1, 1, 2)) is None
