"""The CloudWatch dashboard as its JSON body: names of the deployed parts go in, widgets come out. One screen, from the
bridges at the top to the tables at the bottom; with 50 metrics at most, which is what AWS counts as one dashboard."""
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract import routes
from infra.monitoring_alarms import NAMESPACE
from infra.settings import Settings

WIDTH, HEIGHT, COLUMNS = 8, 6, 3
PERIOD_S = 300
Metric = list[Any]


@dataclass(frozen=True)
class Parts:
    """What is shown; every name may be a reference. functions and tables by our name, queues by route, dead: the
    dead-letter queues, by what failed."""

    functions: Mapping[str, Any]
    queues: Mapping[str, Any]
    dead: Mapping[str, Any]
    tables: Mapping[str, Any]
    api_id: Any


def body(settings: Settings, parts: Parts, alarm_arns: Sequence[str]) -> dict[str, Any]:
    """The dashboard's source, as CloudWatch documents it."""
    widgets: list[dict[str, Any]] = [{
        "type": "alarm", "x": 0, "y": 0, "width": WIDTH * COLUMNS, "height": HEIGHT,
        "properties": {"title": "Alarms", "alarms": list(alarm_arns)}}]
    for place, (title, statistic, metrics) in enumerate(_graphs(settings, parts)):
        row, column = divmod(place, COLUMNS)
        widgets.append({
            "type": "metric", "x": column * WIDTH, "y": HEIGHT * (row + 1), "width": WIDTH, "height": HEIGHT,
            "properties": {"title": title, "region": settings.region, "stat": statistic, "period": PERIOD_S,
                           "view": "timeSeries", "metrics": metrics}})
    return {"widgets": widgets}


def _graphs(settings: Settings, parts: Parts) -> Iterator[tuple[str, str, list[Metric]]]:
    """(title, statistic, metrics) from the site to the tables."""
    rules = [routes.rule_name(settings.name, route.name) for route in routes.ROUTES]
    functions, queues = parts.functions, parts.queues
    yield "Bridges", "Maximum", [[NAMESPACE, name, "deployment", settings.name] for name in (
        "bridges_silent", "ledger_mismatch", "incidents_open")]
    yield "Messages per rule", "Sum", [["AWS/IoT", "TopicMatch", "RuleName", rule] for rule in rules]
    for title, shown in (("Waiting in queues", queues), ("Dead letters", parts.dead)):
        yield title, "Maximum", [
            ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue, {"label": what}]
            for what, queue in shown.items()]
    yield "Oldest message, s", "Maximum", [
        ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue, {"label": route}]
        for route, queue in queues.items()]
    for title, metric, statistic in (("Invocations", "Invocations", "Sum"), ("Errors", "Errors", "Sum"),
                                     ("Duration, ms", "Duration", "Maximum")):
        yield title, statistic, [["AWS/Lambda", metric, "FunctionName", function, {"label": name}]
                                 for name, function in functions.items()]
    yield "Roll-ups behind, ms", "Maximum", [["AWS/Lambda", "IteratorAge", "FunctionName", functions["aggregate"]]]
    yield "API", "Sum", [["AWS/ApiGateway", metric, "ApiId", parts.api_id] for metric in ("Count", "4xx", "5xx")]
    yield "Written to tables, units", "Sum", [
        ["AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", table, {"label": name}]
        for name, table in parts.tables.items()]
