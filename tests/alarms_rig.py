"""What the tests of alarms share: a moment, a topic, and an alarm on the depth of a queue as a template has it."""

from typing import Any

NOW_S = 4_102_444_800.0  # 2100: after whatever is stamped by the real clock
TOPIC = "arn:aws:sns:eu-north-1:123456789012:operations"
DEPTH: dict[str, Any] = {
    "Namespace": "AWS/SQS", "MetricName": "ApproximateNumberOfMessagesVisible", "Statistic": "Maximum",
    "Dimensions": [{"Name": "QueueName", "Value": "dead"}], "Period": 300, "EvaluationPeriods": 1, "Threshold": 0,
    "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching", "AlarmActions": [TOPIC]}
