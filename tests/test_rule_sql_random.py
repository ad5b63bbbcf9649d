"""The rule SQL evaluator against random input: documents, statements, arguments, large numbers and topic filters."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud.gateway import topics as gateway_topics
from local_cloud.rule_sql import Message, SqlError, compile_statement, filter_fault, to_payload, topic_matches
from local_cloud.rule_sql.functions import FUNCTIONS
from tests.rule_sql_rig import evaluate, exact

NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
SCALARS = st.one_of(NUMBERS, st.sampled_from(["true", "false", "null"]), st.text(max_size=8).map(json.dumps))


def _array(parts: list[str]) -> str:
    return f"[{','.join(parts)}]"


def _object(pairs: dict[str, str]) -> str:
    return "{" + " , ".join(f"{json.dumps(key)} : {value}" for key, value in pairs.items()) + "}"


DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(_array),
        st.dictionaries(st.text(max_size=5), inner, max_size=5).map(_object),
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS)
def test_any_json_keeps_every_number_exactly(document: str) -> None:
    payload = document.encode("utf-8", "surrogatepass")
    assert exact(to_payload(evaluate("SELECT * FROM 'a/b'", payload)).decode()) == exact(document)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_arbitrary_text_is_a_statement_or_an_sql_error(text: str) -> None:
    for sql in (text, f"SELECT {text}", f"SELECT * FROM 'a' WHERE {text}"):
        try:
            compile_statement(sql)
        except SqlError as fault:
            assert 0 <= fault.position <= len(sql) + 1
            assert fault.text


PAYLOAD = b'{"a":1.5,"b":[1,"x",null,{"t":2}],"rows":[{"t":1},{"t":2.25}],"t":true,"n":null,"o":{"k":"v"}}'
LEAVES = """1 -2 0 2.5 1e-999 9e999 1e34 -1e33 12345678901234567890123456789012345.5 '7' '-1.5' '5E-3' 'x' '' "q" true
    false null nothing a b rows t n o [1] {} {'k':1} 'yyyy-MM-dd' 'base64' '(' '$1' 'enrichArray' 'UTC' topic()"""
VALUES = st.sampled_from(LEAVES.split())
OPERATORS = st.sampled_from(["+", "-", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=", "AND", "OR", "IN"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, OPERATORS, inner).map(" ".join),
        st.tuples(inner, st.sampled_from([".k", ".t", "[1]", "['k']"])).map(lambda both: f"({both[0]}){both[1]}"),
        st.tuples(st.sampled_from(["-", "NOT "]), inner).map(lambda both: f"({both[0]} ({both[1]}))"),
        st.tuples(st.sampled_from(sorted(FUNCTIONS)), st.lists(inner, max_size=3)).map(
            lambda call: f"{call[0]}({', '.join(call[1])})"
        ),
        st.tuples(inner, inner, inner).map(lambda three: "CASE {} WHEN {} THEN {} END".format(*three)),
        st.tuples(inner, inner).map(lambda two: "(SELECT VALUE {} FROM rows AS r WHERE {})".format(*two)),
        st.tuples(inner, st.sampled_from(["Int", "String", "Boolean"])).map(lambda two: "cast({} AS {})".format(*two)),
    )


@settings(max_examples=500, deadline=None)
@given(st.recursive(VALUES, _larger, max_leaves=12))
def test_any_expression_of_the_grammar_compiles_and_evaluates(expression: str) -> None:
    message = Message("a/b", PAYLOAD, client_id="c")
    value = compile_statement(f"SELECT VALUE {expression} FROM 'a'").evaluate(message)
    assert isinstance(to_payload(value), bytes)
    assert not isinstance(value, float)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(VALUES, st.just("*")), max_size=4))
def test_functions_answer_any_arguments(arguments: list[str]) -> None:
    message = Message("a/b", PAYLOAD, client_id="c")
    for name in FUNCTIONS:
        value = compile_statement(f"SELECT VALUE {name}({','.join(arguments)})").evaluate(message)
        assert isinstance(to_payload(value), bytes)
        assert not isinstance(value, float)


INTEGERS = st.integers(-(10**34) + 1, 10**34 - 1)


@settings(max_examples=200, deadline=None)
@given(INTEGERS, INTEGERS)
def test_ints_of_34_digits_are_exact(left: int, right: int) -> None:
    sql = f"SELECT VALUE [{left} + 0, {left} = {right}, {left} < {right}, ({left}) % 7]".replace("--", "- -")
    rest = abs(left) % 7 * (1 if left >= 0 else -1)
    assert evaluate(sql, {}) == [left, left == right, left < right, rest]


LEVELS = st.sampled_from(["a", "b", "$aws", "", "+", "#"])


@settings(max_examples=300, deadline=None)
@given(st.lists(LEVELS, min_size=1, max_size=4).map("/".join), st.lists(LEVELS, min_size=1, max_size=4).map("/".join))
def test_rules_and_subscribers_of_the_gateway_read_a_filter_alike(topic_filter: str, topic: str) -> None:
    assert (filter_fault(topic_filter) is None) == gateway_topics.is_topic_filter(topic_filter)
    if gateway_topics.is_topic_filter(topic_filter) and gateway_topics.is_topic_name(topic):
        assert topic_matches(topic_filter, topic) == gateway_topics.matches(topic_filter, topic, False)
