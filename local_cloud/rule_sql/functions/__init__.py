"""The functions of rule SQL by name, gathered from this package's themes; compiler.py calls them.

A function takes already evaluated arguments and answers UNDEFINED for what its table in AWS's reference calls so;
it never raises. Functions of the message take the Message first.
"""

from __future__ import annotations

from local_cloud.rule_sql.functions import collection, context, digest, encoding, numeric, pattern, text
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

# Functions that call another service, and which one.
AWS_SERVICE_FUNCTIONS = {
    "aws_lambda": "AWS Lambda",
    "get_dynamodb": "Amazon DynamoDB",
    "get_registry_data": "the AWS IoT registry",
    "get_secret": "AWS Secrets Manager",
    "get_thing_shadow": "the AWS IoT device shadow service",
    "machinelearning_predict": "Amazon SageMaker AI",
}

__all__ = ["AWS_SERVICE_FUNCTIONS", "FUNCTIONS", "Function"]
