"""Another product's handler: soil readings from a queue to a table."""
import json
import os
from decimal import Decimal

import boto3

TABLE = boto3.resource("dynamodb").Table(os.environ["PROBES"])


def handler(event, context):
    """One item per message; what has no bed is reported as failed."""
    failures = []
    for record in event["Records"]:
        reading = json.loads(record["body"], parse_float=Decimal)
        if "bed" not in reading:
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        TABLE.put_item(Item={**reading, "label": os.environ["LABEL"], "glass": os.environ.get("GLASS", "none")})
    return {"batchItemFailures": failures}
