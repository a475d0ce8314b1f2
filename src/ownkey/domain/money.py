"""Money as whole nano-dollars.

A cached token can cost less than a millionth of a dollar: cents would round real usage to zero, and floats
would round it differently on every machine. 1 USD = 10^9 nano-USD; every amount is an int that fits int64.
"""

from decimal import Decimal, InvalidOperation

NUSD_PER_USD = 1_000_000_000
TOKENS_PER_MILLION = 1_000_000
MAX_NUSD = 2**63 - 1
# Below this power of ten an amount is the smallest there is: a longer exponent must not cost us any work.
_SMALLEST = 30
_MOST_DIGITS = 1_000


class AmountError(ValueError):
    """An amount that is not a number, is negative where that makes no sense, or does not fit int64."""


def ceil_div(numerator: int, denominator: int) -> int:
    """The smallest integer >= numerator / denominator; `denominator` > 0."""
    return -(-numerator // denominator)


def parse_usd_nusd(text: str | int | Decimal) -> int:
    """Read a non-negative amount in USD from its digits, as nano-USD, rounded up.

    Takes the digits themselves (a JSON number's text, a decimal string), never a float: 0.1 + 0.2 must not
    become someone's bill. Raises AmountError.
    """
    try:
        value = Decimal(text)
    except (InvalidOperation, ValueError, TypeError) as error:
        raise AmountError(f"not an amount in USD: {str(text)[:40]!r}") from error
    if not value.is_finite() or value < 0:
        raise AmountError(f"not an amount in USD: {str(text)[:40]!r}")
    if value.adjusted() > 12:
        raise AmountError("the amount is too large")
    if value.adjusted() < -_SMALLEST:
        return 1 if value else 0
    sign, digits, exponent = value.as_tuple()
    del sign
    assert isinstance(exponent, int)
    if len(digits) > _MOST_DIGITS:
        raise AmountError("the amount has too many digits")
    whole = int("".join(map(str, digits)) or "0")
    shift = exponent + 9
    amount = whole * 10**shift if shift >= 0 else ceil_div(whole, 10**-shift)
    return check_nusd(amount)


def check_nusd(amount: int) -> int:
    """Return `amount` if it is storable (0 <= amount < 2^63), else raise AmountError."""
    if not 0 <= amount <= MAX_NUSD:
        raise AmountError("the amount does not fit a signed 64-bit integer of nano-USD")
    return amount


def format_usd(amount_nusd: int) -> str:
    """The exact amount in USD with at least two decimals: 1_500_000 -> '0.0015', 10**9 -> '1.00'."""
    sign = "-" if amount_nusd < 0 else ""
    whole, rest = divmod(abs(amount_nusd), NUSD_PER_USD)
    digits = f"{rest:09d}".rstrip("0")
    return f"{sign}{whole}.{digits.ljust(2, '0')}"
