"""The functions of rule SQL by name, gathered from this package's themes; compiler.py calls them.

A function takes already evaluated arguments and answers UNDEFINED for what its table in AWS's reference calls so;
it never raises. Functions of the message take the Message first.
"""

from __future__ import annotations

from local_cloud.rule_sql.functions import collection, context, digest, encoding, numeric, pattern, shadow, text
from local_cloud.rule_sql.functions import time_format as _format
from local_cloud.rule_sql.functions import time_parse as _parse
from local_cloud.rule_sql.functions.declare import Function

FUNCTIONS: dict[str, Function] = {
    **numeric.FUNCTIONS,
    **text.FUNCTIONS,
    **pattern.FUNCTIONS,
    **digest.FUNCTIONS,
    **encoding.FUNCTIONS,
    **collection.FUNCTIONS,
    **context.FUNCTIONS,
    **_format.FUNCTIONS,
    **_parse.FUNCTIONS,
}

# Functions that call another service, and which one. A statement has those that it is given (`compile_statement`).
AWS_SERVICE_FUNCTIONS = {
    "aws_lambda": "AWS Lambda",
    "get_dynamodb": "Amazon DynamoDB",
    "get_registry_data": "the AWS IoT registry",
    "get_secret": "AWS Secrets Manager",
    shadow.NAME: "the AWS IoT device shadow service",
    "machinelearning_predict": "Amazon SageMaker AI",
}

# Those of them that rules of the local cloud have (rule_engine.py).
RULE_FUNCTIONS = (shadow.NAME,)

__all__ = ["AWS_SERVICE_FUNCTIONS", "FUNCTIONS", "RULE_FUNCTIONS", "Function"]
