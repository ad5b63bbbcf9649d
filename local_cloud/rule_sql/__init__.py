"""AWS IoT rule SQL (2016-03-23): rule_engine.py hands messages in, gets each rule's output and action templates."""

from local_cloud.rule_sql.errors import SqlError, Unsupported
from local_cloud.rule_sql.json_text import dumps, to_payload
from local_cloud.rule_sql.message import Message
from local_cloud.rule_sql.statement import VERSION, Statement, compile_statement
from local_cloud.rule_sql.templates import Template
from local_cloud.rule_sql.topics import filter_fault, topic_matches
from local_cloud.rule_sql.values import NO_OUTPUT, UNDEFINED

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
