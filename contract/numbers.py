"""Exact decimal numbers in JSON: read, checked, written and packed as integers with a decimal exponent."""
import decimal
import json
import re
from decimal import Decimal
from itertools import filterfalse

from contract.errors import BadPayload

MAX_DIGITS = 34
_RANGE = decimal.Context(
    prec=MAX_DIGITS, Emin=-130, Emax=125,
    traps=[decimal.Inexact, decimal.Overflow, decimal.Subnormal, decimal.InvalidOperation],
)
fit = _RANGE.plus  # `check` without words: raises decimal.DecimalException
_WIDE = decimal.Context(prec=2000)
_INT = {int}
_WORDS = {None: "null", True: "true", False: "false"}
_text = json.encoder.encode_basestring_ascii  # what json.dumps does with a str, without the way there
_MAX_SPREAD = 40  # decimal places between the smallest and the largest of a column before it is kept as text
_TOO_LONG = 10 ** MAX_DIGITS  # rule SQL's Int ends below


def is_number(value):
    """True for what JSON calls a number (bool is an int in Python, but no number in JSON)."""
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def check(number, name=""):
    """Return `number` as a Decimal that DynamoDB can hold exactly, else raise BadPayload("number out of range").

    Bounds: 34 significant digits (what AWS IoT rule SQL keeps), magnitude 1e-130 up to 1e126 (DynamoDB).
    """
    try:
        return _RANGE.plus(number if isinstance(number, Decimal) else Decimal(number))
    except (decimal.DecimalException, ValueError):
        raise BadPayload(
            "number out of range",
            "%s is %.60s; expected at most %d significant digits and a magnitude from 1e-130 to 1e126"
            % (name or "a number", number if isinstance(number, Decimal) else "an integer", MAX_DIGITS))


def canonical(number):
    """The same value without trailing zeros or a positive exponent up to 34 digits: 20.0 -> 20, 1E+3 -> 1000."""
    number = _WIDE.normalize(number)
    _, digits, exponent = number.as_tuple()
    if exponent > 0 and len(digits) + exponent <= MAX_DIGITS:
        return _WIDE.quantize(number, Decimal(1))
    return number


def _refuse_constant(name):
    raise BadPayload("not a number", "got %s; JSON has no such number" % name)


def _int(text):
    return int(text) if len(text) < 64 else Decimal(text)  # int() of a very long text is slow or refused


def _refuse_what_sqs_refuses(text):
    """U+FFFE and U+FFFF are no characters to SQS: the rule would fail for ever on a batch that holds one."""
    if "\ufffe" in text or "\uffff" in text or ("\\u" in text and re.search(r"\\u[fF]{3}[eEfF]", text)):
        raise BadPayload("bad character", "U+FFFE or U+FFFF, which AWS cannot queue; expected any other")


def _refuse_lone_surrogates(text):
    if re.search(r"\\u[dD][89a-fA-F]", text):
        try:
            json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise BadPayload("bad UTF-8", "half of a surrogate pair in a \\u escape")


_decode = json.JSONDecoder(parse_float=Decimal, parse_int=_int, parse_constant=_refuse_constant).decode


def loads(raw):
    """Decode UTF-8 JSON bytes (or text) with every number exact: int or Decimal. Raises BadPayload."""
    try:
        text = raw.decode("utf-8") if isinstance(raw, (bytes, bytearray)) else raw
    except UnicodeDecodeError as error:
        raise BadPayload("bad UTF-8", "%s at byte %d" % (error.reason, error.start))
    try:
        _refuse_what_sqs_refuses(text)
        if "\\u" in text:
            _refuse_lone_surrogates(text)
        return _decode(text)
    except BadPayload:
        raise
    except RecursionError:
        raise BadPayload("broken JSON", "nested too deeply")
    except decimal.DecimalException:
        raise BadPayload("number out of range", "an exponent is beyond any bound")
    except ValueError as error:
        raise BadPayload("broken JSON", str(error)[:200])


def dumps(value):
    """Compact JSON text of `value` with every Decimal written digit for digit (json.dumps cannot)."""
    kind = type(value)
    if kind is Decimal or kind is int:
        return str(value)
    if kind is str:
        return _text(value)
    if isinstance(value, dict):
        return "{%s}" % ",".join(["%s:%s" % (_text(str(k)), dumps(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        whole = set(map(type, value)) == _INT  # a packed column: thousands of them
        return "[%s]" % ",".join(map(str, value) if whole else map(dumps, value))
    if value is None or kind is bool:
        return _WORDS[value]
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float):
        raise TypeError("got the float %r; expected int or Decimal, so that no number drifts" % value)
    return json.dumps(value)


def _exponents(column):
    """The lowest and the highest decimal exponent; None counts as 0. Few differ, so it is a quick pass for each."""
    rest = [n for n in column if n is not None]
    low = high = 0 if len(rest) < len(column) else Decimal(rest[0]).as_tuple().exponent
    while rest and high - low <= _MAX_SPREAD:
        first = Decimal(rest[0])
        exponent = first.as_tuple().exponent
        low, high = min(low, exponent), max(high, exponent)
        rest = list(filterfalse(first.same_quantum, rest))
    return low, high


def pack(column):
    """Pack numbers (None = absent) as [exponent, int, int, ...]; values too far apart as ["text", "1E-9", ...]."""
    exponent, highest = _exponents(column)
    if highest - exponent > _MAX_SPREAD or exponent > 0 or exponent < -_MAX_SPREAD:
        return _as_text(column)
    if exponent == 0:
        whole = [None if n is None else int(n) for n in column]
    else:
        scaled, places = _WIDE.scaleb, -exponent
        whole = [None if n is None else int(scaled(n, places)) for n in column]
    there = [n for n in whole if n is not None] if None in whole else whole
    if there and not -_TOO_LONG < min(there) <= max(there) < _TOO_LONG:
        return _as_text(column)
    return [exponent] + whole


def _as_text(column):
    return ["text"] + [None if n is None else str(canonical(Decimal(n))) for n in column]


def unpack(packed):
    """The column that `pack` packed: a list of canonical Decimals (None = absent)."""
    exponent = packed[0]
    if exponent == "text":
        return [None if text is None else canonical(Decimal(text)) for text in packed[1:]]
    return [None if n is None else canonical(Decimal(n).scaleb(exponent, _WIDE)) for n in packed[1:]]
