"""The carry: many small charges lose less than one credit together, not one each."""

from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.ledger import hold_credits, plan_charge, price_of
from ownkey.domain.money import ceil_div
from ownkey.domain.product import CreditRules

RULES = st.builds(CreditRules, st.integers(1, 10**9), st.integers(0, 30_000))


@given(rules=RULES, costs=st.lists(st.integers(0, 10**9), max_size=30))
def test_charges_add_up_to_the_credits_of_their_sum(rules: CreditRules, costs: list[int]) -> None:
    """After any number of covered charges the credits taken are the sum of the prices, rounded up once; what was
    paid beyond it stands in the carry, and is less than a credit."""
    carry = taken = price = 0
    for cost in costs:
        charge, absorbed = plan_charge(cost, hold_credits(cost, rules), carry, rules)
        assert absorbed == 0
        assert charge.charge_nusd == price_of(cost, rules)
        carry, taken, price = charge.carry_nusd, taken + charge.credits, price + charge.charge_nusd

        assert taken == ceil_div(price, rules.price_nusd)
        assert carry == taken * rules.price_nusd - price
        assert 0 <= carry < rules.price_nusd


def test_two_halves_of_a_credit_take_one() -> None:
    """The plainest case: the second half was paid for with the first."""
    rules = CreditRules(price_nusd=10)
    first, _ = plan_charge(5, 1, 0, rules)
    second, _ = plan_charge(5, 1, first.carry_nusd, rules)

    assert (first.credits, first.carry_nusd) == (1, 5)
    assert (second.credits, second.carry_nusd) == (0, 0)
