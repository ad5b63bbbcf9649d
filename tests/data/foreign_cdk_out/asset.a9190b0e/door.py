"""Another product's API: what is known of one bed."""
import json
import os

import boto3
from boto3.dynamodb.conditions import Key

TABLE = boto3.resource("dynamodb").Table(os.environ["PROBES"])


def handler(event, context):
    """The items of the bed in the path."""
    found = TABLE.query(KeyConditionExpression=Key("bed").eq(event["pathParameters"]["bed"]))["Items"]
    return {"statusCode": 200, "headers": {"content-type": "application/json"},
            "body": json.dumps({"items": found, "same": os.environ["SAME"] == os.environ["PROBES"]}, default=str)}
