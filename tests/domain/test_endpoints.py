"""The price that admits a model's cheapest working host on OpenRouter, and covers whichever of them answers."""

from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.endpoints import Endpoint, price_to_admit
from ownkey.domain.pricing import ModelPrice, Rate, check_price, rate_or_fallback

MILLION = 10**9


def price(text_in: int, text_out: int, **more: int) -> ModelPrice:
    rates = {"input": (Rate(0, text_in),), "output": (Rate(0, text_out),)}
    rates |= {name: (Rate(0, rate),) for name, rate in more.items()}
    return ModelPrice("openrouter", "acme/one", rates, context_window=8_000, max_output_tokens=500, source="openrouter")


def host(text_in: int, text_out: int, works: bool = True, **more: int) -> Endpoint:
    return Endpoint(price(text_in, text_out, **more), works)


CURRENT = price(100, 400)


def test_a_host_that_the_price_admits_already_changes_nothing() -> None:
    """Then the 404 had another reason: a data policy, a region."""
    assert price_to_admit(CURRENT, [host(100, 400), host(300, 900)]) is None
    assert price_to_admit(CURRENT, [host(50, 100)]) is None
    assert price_to_admit(CURRENT, []) is None


def test_the_cheapest_working_host_is_admitted() -> None:
    """By the sum of text in and text out; a cheap host that is down does not answer."""
    fresh = price_to_admit(CURRENT, [host(90, 300, works=False), host(150, 600), host(400, 500), host(200, 800)])

    assert fresh is not None
    assert (fresh.dearest("input"), fresh.dearest("output")) == (150, 600)
    assert (fresh.context_window, fresh.max_output_tokens) == (8_000, 500)


def test_where_no_host_works_the_cheapest_of_all_counts() -> None:
    fresh = price_to_admit(CURRENT, [host(200, 800, works=False), host(150, 900, works=False)])

    assert fresh is not None
    assert fresh.dearest("input") == 200


def test_all_else_is_the_dearest_of_the_hosts_it_admits() -> None:
    """Cache writes and reasoning are no part of `max_price`: any admitted host may bill them."""
    hosts = [
        host(150, 600, cache_read=15), host(150, 600, cache_write_5m=400, reasoning=700), host(140, 590, False),
        host(160, 700, cache_write_5m=9_000),
    ]
    fresh = price_to_admit(CURRENT, hosts)

    assert fresh is not None
    assert fresh.dearest("cache_write_5m") == 400
    assert fresh.dearest("reasoning") == 700
    assert fresh.dearest("cache_read") == 150, "one host has no price for it and bills the input's"


RATES = st.integers(1, 50)
HOSTS = st.lists(
    st.builds(
        lambda tiers, out, cache, works: Endpoint(ModelPrice(
            "openrouter", "acme/one",
            {
                "input": tuple(Rate(start, rate) for start, rate in sorted({0: 7, **tiers}.items())),
                "output": (Rate(0, out),), **({"cache_read": (Rate(0, cache),)} if cache else {}),
            },
        ), works),
        st.dictionaries(st.sampled_from([0, 1_000, 2_000]), RATES, max_size=3), RATES, st.integers(0, 60),
        st.booleans(),
    ),
    max_size=5,
)


@given(HOSTS, st.integers(1, 40), st.integers(1, 40))
def test_the_price_covers_every_host_that_it_admits(hosts: list[Endpoint], text_in: int, text_out: int) -> None:
    """At every size and in every dimension; it admits a host, it is sane, and it is only made where none was."""
    fresh = price_to_admit(price(text_in, text_out), hosts)
    working = [h.price for h in hosts if h.works] or [h.price for h in hosts]
    if fresh is None:
        assert not working or any(
            (p.dearest("input") or 0) <= text_in and (p.dearest("output") or 0) <= text_out for p in working
        )
        return
    assert check_price(fresh) is None
    admitted = [
        h.price for h in hosts
        if all((h.price.dearest(n) or 0) <= (fresh.dearest(n) or 0) for n in ("input", "output"))
    ]
    assert any(p in working for p in admitted)
    for one in admitted:
        for dimension in ("input", "output", "cache_read", "reasoning"):
            for size in (0, 999, 1_000, 1_999, 2_000, 10_000):
                assert (rate_or_fallback(one, dimension, size) or 0) <= (rate_or_fallback(fresh, dimension, size) or 0)
