"""A rule's SQL, compiled once when the rule is created and evaluated for each message that reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lark import Tree
from lark.lexer import Token

from local_cloud.rule_sql import parser
from local_cloud.rule_sql.compiler import Compiler
from local_cloud.rule_sql.errors import SqlError
from local_cloud.rule_sql.functions import FUNCTIONS, Function
from local_cloud.rule_sql.json_text import dumps
from local_cloud.rule_sql.message import Message
from local_cloud.rule_sql.parser import VERSION, Node
from local_cloud.rule_sql.scope import Evaluator, Scope
from local_cloud.rule_sql.selection import compile_projection, compile_where
from local_cloud.rule_sql.templates import Template
from local_cloud.rule_sql.topics import filter_fault
from local_cloud.rule_sql.values import NO_OUTPUT, UNDEFINED

MAX_VARIABLES = 10
MAX_VARIABLE_NAME = 64
MAX_VARIABLES_BYTES = 128 * 1024


class Statement:
    """One compiled statement. `topic_filter` is None without FROM: such a rule runs by Basic Ingest only."""

    def __init__(self, sql: str, functions: Mapping[str, Function]) -> None:
        self.sql = sql
        tree = parser.parse_statement(sql)
        sets, projection, source, where = tree.children
        self._names: set[str] = set()
        self._functions = functions
        self._compiler = Compiler(sql, self._names, functions)
        self._variables = self._compile_set(sets) if isinstance(sets, Tree) else []
        self.topic_filter = self._compile_from(source) if isinstance(source, Tree) else None
        self._passes = compile_where(self._compiler, where)  # type: ignore[arg-type]
        self._project = compile_projection(self._compiler, projection)
        self._templates: dict[str, Template] = {}

    def evaluate(self, message: Message) -> Any:
        """The rule's output for a message that its topic filter takes, NO_OUTPUT when WHERE is not true.

        The output is a JSON value with exact numbers (int, Decimal), UNDEFINED (an empty payload), or bytes when
        the payload is not JSON and goes through `*`. It may share parts with `message.document`: do not change it.
        Raises SqlError when SET variables outgrow 128 KiB.
        """
        scope = self._scope(message)
        return self._project(scope) if self._passes(scope) else NO_OUTPUT

    def template(self, text: str) -> Template:
        """The compiled substitution template of an action's parameter; raises SqlError. Compiled once per text."""
        if text not in self._templates:
            self._templates[text] = Template(text, self._names, self._functions)
        return self._templates[text]

    def render(self, template: str, message: Message) -> str:
        """`template` with each ${expression} replaced by its value for the original payload; SET variables are seen."""
        return self.template(template).render(self._scope(message))

    def _scope(self, message: Message) -> Scope:
        variables = message.variables.get(self)
        scope = Scope(message, message.document, variables if variables is not None else {})
        if variables is None and self._variables:
            self._assign(scope)
            message.variables[self] = scope.variables
        return scope

    def _assign(self, scope: Scope) -> None:
        size_bytes = 0
        for name, evaluate in self._variables:
            value = evaluate(scope)
            scope.variables[name] = UNDEFINED if isinstance(value, bytes) else value
            if isinstance(value, str | list | dict):
                size_bytes += len(dumps(value).encode())
            if size_bytes > MAX_VARIABLES_BYTES:
                raise SqlError("SET", 0, f"variables up to {name} hold more than {MAX_VARIABLES_BYTES} bytes of JSON")

    def _compile_set(self, sets: Node) -> list[tuple[str, Evaluator]]:
        variables = []
        for assignment in sets.children:
            assert isinstance(assignment, Tree)
            name, expression = assignment.children
            fault = self._name_fault(str(name))
            if fault:
                raise self._compiler.fault(assignment, fault)
            [evaluate] = self._compiler.compile_all([expression])
            variables.append((str(name), evaluate))
            self._names.add(str(name))
        return variables

    def _name_fault(self, name: str) -> str | None:
        if len(name) - 1 > MAX_VARIABLE_NAME:
            return f"variable names have at most {MAX_VARIABLE_NAME} characters, got {len(name) - 1}"
        if name in self._names:
            return f"variable {name} is set twice; a variable is assigned once"
        if len(self._names) == MAX_VARIABLES:
            return f"more than {MAX_VARIABLES} variables"
        return None

    def _compile_from(self, source: Node) -> str:
        [token] = source.children
        assert isinstance(token, Token)
        topic_filter = parser.unquote(token) if token.type == "STRING" else str(token)
        fault = filter_fault(topic_filter)
        if fault:
            raise self._compiler.fault(token, fault)
        return topic_filter


def compile_statement(sql: str, version: str | None = VERSION,
                      services: Mapping[str, Function] | None = None) -> Statement:
    """Compile a rule's SQL. `version` is the rule's AwsIotSqlVersion; None is CloudFormation's default, 2015-10-08.

    `services` are the functions that call another AWS service and can be called here, by name. Raises SqlError for
    what AWS would refuse (or what is not known to be AWS IoT SQL), and its subclass Unsupported for any other function
    of another service.
    """
    if version != VERSION:
        got = f"{version!r}" if version else "none, which means '2015-10-08'"
        text = f"AwsIotSqlVersion {VERSION!r} is the one emulated, got {got}; set it in the rule"
        raise SqlError("SELECT", 0, text)
    if not sql.strip():
        raise SqlError("SELECT", 0, "the statement is empty; write SELECT … FROM '…'")
    return Statement(sql, {**FUNCTIONS, **(services or {})})
