"""AWS IoT rule SQL (2016-03-23): rule_engine.py hands messages in, gets each rule's output and action templates."""

from .errors import SqlError, Unsupported
from .json_text import dumps, to_payload
from .message import Message
from .statement import VERSION, Statement, compile_statement
from .templates import Template
from .topics import filter_fault, topic_matches
from .values import NO_OUTPUT, UNDEFINED

__all__ = [
    "NO_OUTPUT",
    "UNDEFINED",
    "VERSION",
    "Message",
    "SqlError",
    "Statement",
    "Template",
    "Unsupported",
    "compile_statement",
    "dumps",
    "filter_fault",
    "to_payload",
    "topic_matches",
]
