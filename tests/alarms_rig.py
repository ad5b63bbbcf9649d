"""What the tests of alarms share: a moment, a topic, and an alarm on the depth of a queue as a template has it."""

from typing import Any

NOW_S = 1_800_000_000.0
TOPIC = "arn:aws:sns:eu-north-1:123456789012:operations"
DEPTH: dict[str, Any] = {
    "Namespace": "AWS/SQS", "MetricName": "ApproximateNumberOfMessagesVisible", "Statistic": "Maximum",
    "Dimensions": [{"Name": "QueueName", "Value": "dead"}], "Period": 300, "EvaluationPeriods": 1, "Threshold": 0,
    "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching", "AlarmActions": [TOPIC]}
