"""Metrics and expressions over them: Metrics Insights queries, arithmetic, and what is forgotten."""

import pytest

from local_cloud.errors import Unsupported
from local_cloud.metric_math import compile_expression
from local_cloud.metrics import Metrics
from tests.alarms_rig import NOW_S


def measured() -> Metrics:
    metrics = Metrics()
    for action, count in (("SqsAction", 2), ("FirehoseAction", 3)):
        metrics.put("AWS/IoT", "Failure", {"RuleName": "shop_orders", "ActionType": action}, count, NOW_S)
    metrics.put("AWS/IoT", "Failure", {"RuleName": "other", "ActionType": "SqsAction"}, 100, NOW_S)
    metrics.put("Shop", "queue_s", {}, 7, NOW_S)
    return metrics


@pytest.mark.parametrize(("query", "value"), [
    ("SELECT SUM(Failure) FROM \"AWS/IoT\" WHERE RuleName = 'shop_orders'", 5),
    ("select max(Failure) from SCHEMA(\"AWS/IoT\", RuleName, ActionType) where RuleName = 'shop_orders'", 3),
    ("SELECT COUNT(Failure) FROM \"AWS/IoT\"", 3),
    ("SELECT SUM(Failure) FROM \"AWS/IoT\" WHERE RuleName = 'shop_orders' AND ActionType = 'SqsAction'", 2),
    ("SELECT SUM(Failure) FROM SCHEMA(\"AWS/IoT\", RuleName)", None),
    ("SELECT SUM(Failure) FROM \"AWS/IoT\" WHERE RuleName = 'nobody'", None),
    ("SELECT AVG(queue_s) FROM Shop", 7),
])
def test_metrics_insights_queries(query: str, value: float | None) -> None:
    assert compile_expression(query, measured(), {})(NOW_S - 300, NOW_S) == value


@pytest.mark.parametrize(("expression", "value"), [
    ("100 * a / b", 50), ("a + a - b", 0), ("SUM([a, b, none])", 6), ("MAX([a,b])", 4), ("AVG([a, b])", 3),
    ("a + none", None), ("a + FILL(none, 0)", 2), ("a / FILL(none, 0)", None), ("MIN([none])", None)])
def test_metric_math(expression: str, value: float | None) -> None:
    ids = {"a": 2.0, "b": 4.0, "none": None}
    others = {name: (lambda from_s, to_s, found=found: found) for name, found in ids.items()}
    assert compile_expression(expression, Metrics(), others)(0, 1) == value


@pytest.mark.parametrize("expression", [
    "a.b", "a +", "__import__('os')", "METRICS()", "IF(a, 1)", "unknown + 1", "SELECT SUM(x) FROM Shop GROUP BY y",
    "SELECT SUM(x) FROM Shop WHERE y != 'z'", "SELECT SUM(Vanished) FROM \"AWS/IoT\"", "'text'", "a ** 2"])
def test_expressions_that_are_not_emulated_are_refused(expression: str) -> None:
    with pytest.raises(Unsupported, match=r"Expression|not measured"):
        compile_expression(expression, Metrics(), {"a": lambda from_s, to_s: 1.0})


def test_forgotten_metrics_are_gone() -> None:
    metrics = measured()
    assert len(metrics.names()) == 4
    metrics.forget(NOW_S + 1)
    assert metrics.names() == []
