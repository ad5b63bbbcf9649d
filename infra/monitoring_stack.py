"""What tells an operator: alarms, saved log queries, links, and with monitoring=full a dashboard.

Names of functions, queues and the API come from the other stacks through SSM; alarms go to the ingest stack's topic.
"""
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from contract import routes
from infra import monitoring_alarms, monitoring_dashboard, monitoring_queries
from infra.monitoring import alarm
from infra.names import take
from infra.settings import Settings

TABLES = ("readings", "rollups", "alerts")
DEAD_LETTERS = (*(route.name for route in routes.ROUTES), "stream")


def timeouts_s(app: cdk.App) -> dict[str, int]:
    """{name: time-out in seconds} of every function that the app has so far: lambdas.<name>.handler."""
    return {str(each.handler).split(".")[1]: int(each.timeout or 3)
            for each in app.node.find_all()
            if isinstance(each, lambda_.CfnFunction) and str(each.handler).startswith("lambdas.")}


class MonitoringStack(cdk.Stack):
    """Alarms over all other stacks; deployed after them."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, functions: Mapping[str, int],
                 **kwargs: Any) -> None:
        """functions: as timeouts_s gives them."""
        super().__init__(scope, construct_id, **kwargs)
        self._settings = settings
        full = settings.monitoring == "full"
        api_id = _part(".", _part("/", take(self, settings, "api-url"), 2), 0)
        alarms = dict(monitoring_alarms.basic(settings, api_id))
        if full:
            named = {name: take(self, settings, f"{name}-function") for name in functions}
            queues = {route.name: self._queue(f"{route.name}-queue") for route in routes.ROUTES}
            alarms |= monitoring_alarms.full(
                settings, {name: (named[name], timeout_s) for name, timeout_s in functions.items()}, queues)
        topic_arn = take(self, settings, "operations-topic")
        arns = [alarm(self, name, topic_arn, condition).attr_arn for name, condition in alarms.items()]
        monitoring_queries.save(self, settings, [take(self, settings, f"{name}-log") for name in functions])
        if full:
            self._dashboard(monitoring_dashboard.Parts(
                functions=named, queues=queues, api_id=api_id,
                dead={name: self._queue(f"{name}-dead-letters") for name in DEAD_LETTERS},
                tables={what: take(self, settings, f"{what}-table") for what in TABLES}), arns)
        self._links(full)

    def _queue(self, what: str) -> str:
        """A queue's name, from its URL."""
        return _part("/", take(self, self._settings, what), 4)

    def _dashboard(self, parts: monitoring_dashboard.Parts, arns: list[str]) -> None:
        made = cloudwatch.CfnDashboard(self, "Dashboard", dashboard_body=self.to_json_string(
            monitoring_dashboard.body(self._settings, parts, arns)))
        self._link("DashboardUrl", f"cloudwatch/home?region={self.region}#dashboards/dashboard/{made.ref}",
                   "The dashboard")

    def _links(self, full: bool) -> None:
        region, name = self.region, self._settings.name
        self._link("AlarmsUrl", f"cloudwatch/home?region={region}#alarmsV2:", "Alarms, and what each one means")
        self._link("LogQueriesUrl", f"cloudwatch/home?region={region}#logsV2:logs-insights",
                   f"Log queries: Queries, then EdgeCloud/{name}/")
        self._link("MessagesUrl", f"iot/home?region={region}#/test",
                   "MQTT test client: subscribe to edgecloud/# to watch alerts, status and receipts")
        if full:
            self._link("TracesUrl", f"cloudwatch/home?region={region}#xray:service-map/map", "X-Ray's map of traces")

    def _link(self, name: str, path: str, description: str) -> None:
        """An Output that opens the console in this deployment's region."""
        cdk.CfnOutput(self, name, value=f"https://{self.region}.console.aws.amazon.com/{path}", description=description)


def _part(separator: str, text: str, index: int) -> str:
    """A piece of a name that is known only when the stack is deployed."""
    return cdk.Fn.select(index, cdk.Fn.split(separator, text))
