"""Hypothesis: every decimal number that the contract takes, and numbers just outside."""
from decimal import Decimal

from hypothesis import strategies as st

from contract import numbers


def _fits(number: Decimal) -> bool:
    return not number or -130 <= number.adjusted() <= 125


_digits = st.integers(-(10 ** 34 - 1), 10 ** 34 - 1)
_small = st.decimals(-1000, 1000, places=4, allow_nan=False, allow_infinity=False)
# As a reading's values are kept: canonical, since 20.0 and 20 are one number.
exact_numbers = (_small | st.integers(-10 ** 34 + 1, 10 ** 34 - 1).map(Decimal) | st.builds(
    Decimal.scaleb, _digits.map(Decimal), st.integers(-163, 125)).filter(_fits)).map(numbers.canonical).map(
    lambda n: n if n else Decimal(0))  # 0 and -0 are one number too
too_long = st.integers(10 ** 34 + 1, 10 ** 60).filter(lambda n: n % 10 != 0 and len(str(n)) > 34)
too_large = st.builds(Decimal.scaleb, st.integers(1, 9).map(Decimal), st.integers(126, 400))
too_small = st.builds(Decimal.scaleb, st.integers(1, 9).map(Decimal), st.integers(-400, -131))
