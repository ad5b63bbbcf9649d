"""Hash functions over the UTF-8 bytes of a String, as lower-case hex."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.functions.text import of_strings


def _pi_permutation() -> list[int]:
    """MD2's table (RFC 1319): 0 … 255 shuffled by the decimal digits of pi, Fisher and Yates's way."""
    digits = iter(_pi_digits())

    def below(limit: int) -> int:
        # The least power of ten that covers `limit`, rejecting draws that would favour small numbers.
        drawn, span = next(digits), 10
        if limit > 10:
            drawn, span = drawn * 10 + next(digits), 100
        if limit > 100:
            drawn, span = drawn * 10 + next(digits), 1000
        return drawn % limit if drawn < limit * (span // limit) else below(limit)

    table = list(range(256))
    for count in range(2, 257):
        swap = below(count)
        table[count - 1], table[swap] = table[swap], table[count - 1]
    return table


def _pi_digits() -> list[int]:
    """722 digits of pi and some to spare, by Machin's formula in whole numbers."""
    unit = 10**760

    def arctan_inverse(x: int) -> int:
        total = term = unit // x
        divisor, direction = 3, -1
        while term:
            term //= x * x
            total += direction * (term // divisor)
            divisor, direction = divisor + 2, -direction
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return [int(digit) for digit in str(pi)[:750]]


_TABLE = _pi_permutation()


def md2(message: bytes) -> str:
    """The MD2 digest (RFC 1319) of some bytes, in hex."""
    padding = 16 - len(message) % 16
    message += bytes([padding]) * padding
    message += _md2_checksum(message)
    state = [0] * 48
    for start in range(0, len(message), 16):
        block = message[start : start + 16]
        state[16:32] = block
        state[32:48] = [left ^ right for left, right in zip(state[:16], block, strict=True)]
        carry = 0
        for step in range(18):
            for place in range(48):
                carry = state[place] = state[place] ^ _TABLE[carry]
            carry = (carry + step) % 256
    return bytes(state[:16]).hex()


def _md2_checksum(message: bytes) -> bytes:
    checksum, last = bytearray(16), 0
    for place, byte in enumerate(message):
        checksum[place % 16] ^= _TABLE[byte ^ last]
        last = checksum[place % 16]
    return bytes(checksum)


def _of_utf8(compute: Callable[[bytes], str]) -> Function:
    return Function(of_strings(lambda text: compute(text.encode("utf-8", "surrogatepass"))), 1, 1)


def _hashlib(name: str) -> Callable[[bytes], str]:
    return lambda data: hashlib.new(name, data, usedforsecurity=False).hexdigest()


FUNCTIONS = {
    "md2": _of_utf8(md2),
    **{name: _of_utf8(_hashlib(name)) for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")},
}
