"""Function calls in rule SQL: found in functions/, or refused when the rule is created."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lark import Tree
from lark.lexer import Token

from local_cloud.rule_sql import parser
from local_cloud.rule_sql.errors import Unsupported
from local_cloud.rule_sql.functions import AWS_SERVICE_FUNCTIONS, FUNCTIONS, Function
from local_cloud.rule_sql.scope import Scope
from local_cloud.rule_sql.values import UNDEFINED

if TYPE_CHECKING:
    from local_cloud.rule_sql.compiler import Compiler

Evaluator = Callable[[Scope], Any]
Node = Tree[Token]


def compile_call(compiler: Compiler, node: Node) -> Evaluator:
    """The closure of a call; raises SqlError for an unknown function, Unsupported for one of another service."""
    token = node.children[0]
    assert isinstance(token, Token)
    name = token.lower()
    arguments = [child for child in node.children[1:] if isinstance(child, Tree)]
    _refuse_services(compiler, token, name, arguments)
    function = FUNCTIONS.get(name)
    if function is None:
        raise compiler.fault(token, f"unknown function {token!s}()")
    if name == "transform" and arguments and _bare(arguments[0]).data == "variable":
        raise compiler.fault(arguments[0], "the mode of transform() cannot be a variable; write 'enrichArray'")
    if name == "encode" and arguments and arguments[0].data == "star":
        return _call_of(function, [Scope.raw, *compiler.compile_all(arguments[1:])])
    return _call_of(function, compiler.compile_all(arguments))


def _refuse_services(compiler: Compiler, token: Token, name: str, arguments: list[Node]) -> None:
    service = AWS_SERVICE_FUNCTIONS.get(name)
    if service is not None:
        raise compiler.fault(token, f"{name}() needs {service}, which is not emulated here", Unsupported)
    if name != "decode" or len(arguments) < 2:
        return
    scheme = _bare(arguments[1])
    if scheme.data == "string" and parser.unquote(str(scheme.children[0])) == "proto":
        text = "decode(…, 'proto') needs a descriptor in Amazon S3, which is not emulated here"
        raise compiler.fault(token, text, Unsupported)


def _bare(node: Node) -> Node:
    while node.data == "group" and isinstance(node.children[0], Tree):
        node = node.children[0]
    return node


def _call_of(function: Function, arguments: list[Evaluator]) -> Evaluator:
    run = function.run
    if not function.fewest <= len(arguments) <= function.most:
        return lambda scope: UNDEFINED  # AWS: a wrong number of arguments gives Undefined
    if function.of_message:
        return lambda scope: run(scope.message, *[argument(scope) for argument in arguments])
    if len(arguments) == 1:
        only = arguments[0]
        return lambda scope: run(only(scope))
    return lambda scope: run(*[argument(scope) for argument in arguments])
