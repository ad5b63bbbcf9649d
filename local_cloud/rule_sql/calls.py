"""Function calls in rule SQL: found among those that the statement has, or refused when the rule is created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lark import Tree
from lark.lexer import Token

from local_cloud.rule_sql import parser
from local_cloud.rule_sql.errors import SqlError, Unsupported
from local_cloud.rule_sql.functions import AWS_SERVICE_FUNCTIONS, RULE_FUNCTIONS, Function
from local_cloud.rule_sql.parser import Node
from local_cloud.rule_sql.scope import Evaluator, Scope
from local_cloud.rule_sql.values import UNDEFINED

if TYPE_CHECKING:
    from local_cloud.rule_sql.compiler import Compiler


def compile_call(compiler: Compiler, node: Node) -> Evaluator:
    """The closure of a call; raises SqlError for an unknown function, Unsupported for one of another service."""
    token = node.children[0]
    assert isinstance(token, Token)
    name = token.lower()
    arguments = [child for child in node.children[1:] if isinstance(child, Tree)]
    function = compiler.functions.get(name)
    if function is None:
        raise _unknown(compiler, token, name)
    if name == "decode":
        _refuse_proto(compiler, token, arguments)
    if name == "transform" and arguments and _bare(arguments[0]).data == "variable":
        raise compiler.fault(arguments[0], "the mode of transform() cannot be a variable; write 'enrichArray'")
    if name == "encode" and arguments and arguments[0].data == "star":
        return _call_of(function, [Scope.raw, *compiler.compile_all(arguments[1:])])
    return _call_of(function, compiler.compile_all(arguments))


def _unknown(compiler: Compiler, token: Token, name: str) -> SqlError:
    if name not in AWS_SERVICE_FUNCTIONS:
        return compiler.fault(token, f"unknown function {token!s}()")
    text = f"{name}() needs {AWS_SERVICE_FUNCTIONS[name]}, which is not emulated here"
    if name in RULE_FUNCTIONS:
        text = f"{name}() needs {AWS_SERVICE_FUNCTIONS[name]}, which only a rule of a running local cloud has"
    return compiler.fault(token, text, Unsupported)


def _refuse_proto(compiler: Compiler, token: Token, arguments: list[Node]) -> None:
    scheme = _bare(arguments[1]) if len(arguments) > 1 else None
    if scheme is not None and scheme.data == "string" and parser.unquote(str(scheme.children[0])) == "proto":
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
