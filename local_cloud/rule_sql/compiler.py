"""Expression trees from parser.py become closures `scope -> value`; statement.py composes them into rules.

Whatever cannot be run is found here, once, when the rule is created: unknown and unsupported functions, unknown
variables, cast targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lark import Tree
from lark.lexer import Token

from local_cloud.rule_sql import calls, casts, operators, parser, selection
from local_cloud.rule_sql.errors import SqlError
from local_cloud.rule_sql.functions import FUNCTIONS, Function
from local_cloud.rule_sql.json_text import literal_number
from local_cloud.rule_sql.parser import Node
from local_cloud.rule_sql.scope import Evaluator, Scope
from local_cloud.rule_sql.values import UNDEFINED, equal

MAX_NESTING = 100


class Compiler:
    """Compiles the expressions of one statement or template; `variables` are the SET names defined so far, `functions`
    what may be called."""

    def __init__(self, text: str, variables: set[str], functions: Mapping[str, Function], clause: str | None = None,
                 offset: int = 0) -> None:
        self.text = text
        self.variables = variables
        self.functions = functions
        self._clause = clause
        self._offset = offset
        self._nesting = 0

    def fault(self, at: Node | Token, text: str, kind: type[SqlError] = SqlError) -> SqlError:
        """The error to raise for a node: its clause, its position in the user's text, and what is wrong."""
        start = at.start_pos if isinstance(at, Token) else at.meta.start_pos
        position = (start or 0) + 1
        return kind(self._clause or parser.clause_at(self.text, position), position + self._offset, text)

    def compile(self, node: Node) -> Evaluator:
        """The closure of an expression tree; raises SqlError."""
        if self._nesting >= MAX_NESTING:
            raise self.fault(node, f"nested deeper than {MAX_NESTING} levels; split it with SET variables")
        self._nesting += 1
        try:
            evaluator: Evaluator = getattr(self, f"_{node.data}")(node)
            return evaluator
        finally:
            self._nesting -= 1

    def compile_all(self, nodes: list[Any]) -> list[Evaluator]:
        """The closures of several trees, in order; the grammar's empty places are skipped."""
        return [self.compile(node) for node in nodes if node is not None]

    def _group(self, node: Node) -> Evaluator:
        return self.compile(child_of(node))

    def _number(self, node: Node) -> Evaluator:
        return _constant(literal_number(str(node.children[0])))

    def _string(self, node: Node) -> Evaluator:
        return _constant(parser.unquote(str(node.children[0])))

    def _true(self, node: Node) -> Evaluator:
        return _constant(True)

    def _false(self, node: Node) -> Evaluator:
        return _constant(False)

    def _null(self, node: Node) -> Evaluator:
        return _constant(None)

    def _name(self, node: Node) -> Evaluator:
        name = str(node.children[0])
        return lambda scope: scope.lookup(name)

    def _variable(self, node: Node) -> Evaluator:
        name = str(node.children[0])
        if name not in self.variables:
            raise self.fault(node, f"variable {name} is not defined by a SET before this place")
        return lambda scope: scope.variables[name]

    def _star(self, node: Node) -> Evaluator:
        return Scope.whole

    def _member(self, node: Node) -> Evaluator:
        owner, key = self.compile(child_of(node)), str(node.children[1])

        def member(scope: Scope) -> Any:
            value = owner(scope)
            return value.get(key, UNDEFINED) if type(value) is dict else UNDEFINED

        return member

    def _index(self, node: Node) -> Evaluator:
        owner, index = self.compile_all(node.children)
        get = FUNCTIONS["get"].run
        return lambda scope: get(owner(scope), index(scope))

    def _array(self, node: Node) -> Evaluator:
        elements = self.compile_all(node.children)
        return lambda scope: [value for value in (e(scope) for e in elements) if value is not UNDEFINED]

    def _object(self, node: Node) -> Evaluator:
        pairs = [pair for pair in node.children if isinstance(pair, Tree)]
        members = [(parser.unquote(str(pair.children[0])), self.compile(child_of(pair, 1))) for pair in pairs]

        def build(scope: Scope) -> dict[str, Any]:
            values = ((key, evaluate(scope)) for key, evaluate in members)
            return {key: value for key, value in values if value is not UNDEFINED}

        return build

    def _disjunction(self, node: Node) -> Evaluator:
        terms = self.compile_all(node.children)
        return lambda scope: operators.any_of([term(scope) for term in terms])

    def _conjunction(self, node: Node) -> Evaluator:
        terms = self.compile_all(node.children)
        return lambda scope: operators.all_of([term(scope) for term in terms])

    def _negation(self, node: Node) -> Evaluator:
        operand = self.compile(child_of(node))
        return lambda scope: operators.opposite(operand(scope))

    def _signed(self, node: Node) -> Evaluator:
        operand = self.compile(child_of(node, 1))
        apply = operators.negate if node.children[0] == "-" else operators.keep_sign
        return lambda scope: apply(operand(scope))

    def _compare(self, node: Node) -> Evaluator:
        left, right = self.compile(child_of(node)), self.compile(child_of(node, 2))
        apply = operators.COMPARISONS[str(node.children[1])]
        return lambda scope: apply(left(scope), right(scope))

    def _contains(self, node: Node) -> Evaluator:
        left, right = self.compile_all(node.children)
        return lambda scope: operators.contains(left(scope), right(scope))

    def _arithmetic(self, node: Node) -> Evaluator:
        # A long sum is one loop, not one level of nesting for each term.
        steps = []
        while node.data == "arithmetic":
            steps.append((operators.ARITHMETIC[str(node.children[1])], self.compile(child_of(node, 2))))
            node = child_of(node)
        first = self.compile(node)
        steps.reverse()

        def total(scope: Scope) -> Any:
            value = first(scope)
            for apply, operand in steps:
                value = apply(value, operand(scope))
            return value

        return total

    def _cast(self, node: Node) -> Evaluator:
        operand, target = self.compile(child_of(node)), node.children[1]
        assert isinstance(target, Token)
        convert = casts.CASTS.get(target.lower())
        if convert is None:
            raise self.fault(target, f"cannot cast to {target!s}; known are {', '.join(sorted(casts.CASTS))}")
        return lambda scope: convert(operand(scope))

    def _case(self, node: Node) -> Evaluator:
        subject = self.compile(child_of(node))
        whens = [child for child in node.children if isinstance(child, Tree) and child.data == "when"]
        branches = [(self.compile(child_of(when)), self.compile(child_of(when, 1))) for when in whens]
        last = node.children[-1]
        otherwise = self.compile(last) if isinstance(last, Tree) and last.data != "when" else _constant(UNDEFINED)

        def choose(scope: Scope) -> Any:
            value = subject(scope)
            if value is UNDEFINED:
                return UNDEFINED
            for test, result in branches:
                candidate = test(scope)
                if candidate is not UNDEFINED and equal(value, candidate):
                    return result(scope)
            return otherwise(scope)

        return choose

    def _nested(self, node: Node) -> Evaluator:
        return selection.compile_nested(self, child_of(node))

    def _exists(self, node: Node) -> Evaluator:
        return selection.compile_exists(self, child_of(node))

    def _call(self, node: Node) -> Evaluator:
        return calls.compile_call(self, node)


def child_of(node: Node, index: int = 0) -> Node:
    """The child at `index`, where the grammar always puts a tree."""
    child = node.children[index]
    assert isinstance(child, Tree), f"the grammar puts a tree here, got {child!r}"
    return child


def _constant(value: Any) -> Evaluator:
    return lambda scope: value
