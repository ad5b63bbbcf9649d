"""When an alarm goes off: CloudWatch's documented rules for missing data, windows, and what is refused."""

from collections.abc import Sequence
from typing import Any

import pytest

from local_cloud.alarm_rules import ALARM, INSUFFICIENT_DATA, OK, Watch, watch
from local_cloud.errors import DeployError, Unsupported
from local_cloud.metrics import Metrics
from tests.alarms_rig import DEPTH, NOW_S, TOPIC

RETAINED = "retained"


def alarm(metrics: Metrics | None = None, **changes: Any) -> Watch:
    return watch({**DEPTH, **changes}, metrics or Metrics())


# The tables of CloudWatch's documentation, "How alarm state is evaluated when data is missing".

@pytest.mark.parametrize(("points", "datapoints", "expected"), [
    ("0-X-X", 3, (OK, OK, OK, OK)),
    ("0----", 3, (OK, OK, OK, OK)),
    ("-----", 3, (INSUFFICIENT_DATA, RETAINED, ALARM, OK)),
    ("0XX-X", 3, (ALARM, ALARM, ALARM, ALARM)),
    ("--X--", 3, (ALARM, RETAINED, ALARM, OK)),
    ("----X", 3, (RETAINED, RETAINED, ALARM, OK)),  # premature: the next one may be good
    ("---X-", 3, (RETAINED, RETAINED, ALARM, OK)),
    ("0-X-X", 2, (ALARM, ALARM, ALARM, ALARM)),
    ("00X0X", 2, (ALARM, ALARM, ALARM, ALARM)),
    ("0-X--", 2, (OK, OK, ALARM, OK)),
    ("----0", 2, (OK, OK, ALARM, OK)),
    ("---X-", 2, (ALARM, RETAINED, ALARM, OK)),
])
def test_missing_data_is_treated_as_documented(points: str, datapoints: int, expected: Sequence[str]) -> None:
    values = [{"0": 0.0, "X": 9.0, "-": None}[point] for point in points]
    for treatment, state in zip(("missing", "ignore", "breaching", "notBreaching"), expected, strict=True):
        one = alarm(EvaluationPeriods=3, DatapointsToAlarm=datapoints, TreatMissingData=treatment)
        assert one.state(values, RETAINED) == state, (points, treatment)


@pytest.mark.parametrize(("comparison", "breaching"), [
    ("GreaterThanThreshold", [False, False, True]), ("GreaterThanOrEqualToThreshold", [False, True, True]),
    ("LessThanThreshold", [True, False, False]), ("LessThanOrEqualToThreshold", [True, True, False])])
def test_every_comparison(comparison: str, breaching: list[bool]) -> None:
    one = alarm(ComparisonOperator=comparison, Threshold="5")
    assert [one.breaching(value) for value in (4, 5, 6)] == breaching


def test_windows_slide_and_pass_faster_at_speed() -> None:
    metrics = Metrics()
    one = alarm(metrics, EvaluationPeriods=2)
    metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "dead"}, 3, NOW_S - 400)
    metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "dead"}, 1, NOW_S - 10)
    assert one.points(NOW_S, 1) == [None, None, 3, 1]
    assert one.points(NOW_S + 199, 1) == [None, None, 3, 1] and one.points(NOW_S + 290, 1) == [None, 3, 1, None]
    assert one.points(NOW_S, 10) == [None, None, None, 1] and one.points(NOW_S, 60) == [None, 1, None, None]


@pytest.mark.parametrize(("changes", "told"), [
    ({"MetricName": "ApproximateDepth"}, "ApproximateDepth is not measured here"),
    ({"Namespace": "AWS/EC2"}, "AWS/EC2 .* is not measured here; AWS/SQS"),
    ({"Dimensions": []}, r"never has data; it has \['QueueName'\]"),
    ({"Statistic": "p99"}, "p99 is not emulated"),
    ({"ComparisonOperator": "LessThanLowerOrGreaterThanUpperThreshold"}, "is not emulated"),
    ({"AlarmActions": ["arn:aws:automate:eu-north-1:ec2:stop"]}, "is no SNS topic"),
    ({"TreatMissingData": "quiet"}, "expected missing, ignore"),
    ({"EvaluationPeriods": 2, "DatapointsToAlarm": 3}, "DatapointsToAlarm: 3 is outside"),
    ({"Metrics": [{"Id": "a", "Expression": "ANOMALY_DETECTION_BAND(1)"}]}, "ANOMALY_DETECTION_BAND is not emulated"),
    ({"Metrics": [{"Id": "a", "Expression": "1"}, {"Id": "b", "Expression": "2"}]}, "2 entries have ReturnData"),
])
def test_what_cannot_be_evaluated_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises((Unsupported, DeployError), match=told):
        alarm(**changes)


def test_disabled_actions_tell_nobody() -> None:
    assert alarm().actions[ALARM] == (TOPIC,) and alarm(ActionsEnabled="false").actions[ALARM] == ()


@pytest.mark.parametrize(("periods", "expected"), [((60, 300), 300), (("60", "300"), 300), (("300", "60"), 300)])
def test_an_expression_spans_the_longest_period_of_its_metrics(periods: Sequence[Any], expected: int) -> None:
    metric = {key: DEPTH[key] for key in ("Namespace", "MetricName", "Dimensions")}
    measured = [{"Id": f"m{number}", "ReturnData": False, "MetricStat": {
        "Metric": metric, "Period": period, "Stat": "Sum"}} for number, period in enumerate(periods)]
    given = {key: DEPTH[key] for key in ("EvaluationPeriods", "Threshold", "ComparisonOperator")}
    one = watch({**given, "Metrics": [*measured, {"Id": "e", "Expression": "m0 + m1"}]}, Metrics())
    assert one.period_s == expected
