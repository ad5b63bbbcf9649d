"""What is watched, as Conditions by alarm name, for monitoring_stack.py: `basic` what nobody would notice otherwise,
`full` also what goes wrong before it costs data. Dead-letter queues have theirs in queues.py."""
from collections.abc import Iterator, Mapping
from typing import Any

from contract import routes
from infra.monitoring import AT_LEAST, BELOW, SILENT, Condition
from infra.settings import Settings, logical_id

NAMESPACE = "EdgeCloud"  # of what lambdas/watch.py measures
WATCH_PERIOD_S = 900  # it runs every few minutes
QUEUE_AGE_S, STREAM_AGE_MS, TIMEOUT_SHARE = 600, 900_000, 0.8
CERTIFICATE_DAYS = 30
API_FAILURES = 3

Named = Iterator[tuple[str, Condition]]


def basic(settings: Settings, api_id: str) -> Named:
    """Messages that no table got, an API that fails, bridges that are away: 2 alarms and a query per rule."""
    for route in routes.ROUTES:
        rule = routes.rule_name(settings.name, route.name)
        # A query, since the dimension ActionType is nowhere documented value by value; one that never failed is free.
        yield f"{logical_id(route.name)}RuleFailures", Condition(
            says=f"rule {rule} could not hand on messages; they lie in the archive bucket under errors/{rule}/",
            query=f"SELECT SUM(Failure) FROM \"AWS/IoT\" WHERE RuleName = '{rule}'")
    yield "Api5xx", Condition(
        says="the API answered 5xx several times within 5 minutes", metric="AWS/ApiGateway 5xx",
        dimensions={"ApiId": api_id}, threshold=API_FAILURES, comparison=AT_LEAST)
    yield "BridgesSilent", Condition(
        says="a bridge is away or sends no status; without data: the function watch does not run",
        metric=f"{NAMESPACE} bridges_silent", dimensions=_own(settings), statistic="Maximum", period_s=WATCH_PERIOD_S,
        silence=SILENT)


def full(settings: Settings, functions: Mapping[str, tuple[Any, int]], queues: Mapping[str, Any]) -> Named:
    """The rest. functions: {name: (function name, time-out in s)}; queues: {route: queue name}; the values may be
    CloudFormation's references."""
    for route in routes.ROUTES:
        yield from _route(settings, route, queues[route.name])
    for name, (function, timeout_s) in functions.items():
        yield from _function(name, {"FunctionName": function}, timeout_s)
    yield "StreamAge", Condition(
        says="roll-ups lie more than 15 minutes behind the readings", metric="AWS/Lambda IteratorAge",
        dimensions={"FunctionName": functions["aggregate"][0]}, statistic="Maximum", threshold=STREAM_AGE_MS)
    yield "LedgerMismatch", Condition(
        says="a bridge's ledger does not add up, or counts losses", metric=f"{NAMESPACE} ledger_mismatch",
        dimensions=_own(settings), statistic="Maximum", period_s=WATCH_PERIOD_S)
    yield "CertificateEnds", Condition(
        says=f"a bridge's certificate ends within {CERTIFICATE_DAYS} days",
        metric=f"{NAMESPACE} certificate_days_left", dimensions=_own(settings), statistic="Minimum",
        threshold=CERTIFICATE_DAYS, comparison=BELOW, period_s=WATCH_PERIOD_S)


def _own(settings: Settings) -> dict[str, str]:
    return {"deployment": settings.name}


def _route(settings: Settings, route: routes.Route, queue: Any) -> Named:
    title, rule = logical_id(route.name), routes.rule_name(settings.name, route.name)
    if route.topic is None:  # Basic Ingest names its rule, and nobody else hears the message
        yield f"{title}RuleNotFound", Condition(
            says=f"messages came for rule {rule}, which is missing or disabled", metric="AWS/IoT RuleNotFound",
            dimensions={"RuleName": rule})
    yield f"{title}ErrorActionFailures", Condition(
        says=f"rule {rule} could not even keep what failed; the bridge sends batches again, the archive has a gap",
        query=f"SELECT SUM(ErrorActionFailure) FROM \"AWS/IoT\" WHERE RuleName = '{rule}'")
    yield f"{title}QueueAge", Condition(
        says=f"a message of {route.name} has waited for {QUEUE_AGE_S // 60} minutes",
        metric="AWS/SQS ApproximateAgeOfOldestMessage", dimensions={"QueueName": queue}, statistic="Maximum",
        threshold=QUEUE_AGE_S)


def _function(name: str, dimensions: Mapping[str, Any], timeout_s: int) -> Named:
    title = logical_id(name)
    yield f"{title}Errors", Condition(says=f"function {name} failed", metric="AWS/Lambda Errors", dimensions=dimensions)
    yield f"{title}Throttles", Condition(
        says=f"function {name} was throttled: the account's concurrency is used up", metric="AWS/Lambda Throttles",
        dimensions=dimensions)
    yield f"{title}Duration", Condition(
        says=f"function {name} came near its time-out of {timeout_s} s", metric="AWS/Lambda Duration",
        dimensions=dimensions, statistic="Maximum", threshold=TIMEOUT_SHARE * timeout_s * 1000)
