"""What the synthesized templates say that decides the cost: windows, memory, buffers, tables, and what is paid for
each month; read by cost_site.py and cost_page.py."""
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.cost_meters import Lines
from local_cloud.cost.bill import fixed
from local_cloud.cost.prices import MONTH_S, Prices


class DesignFault(ValueError):
    """The templates are not those that this calculation knows: what was looked for, what there is."""


@dataclass(frozen=True)
class Function:
    """Memory of a function, the window of what feeds it (the longest, where several do), and from which level on it
    logs."""

    memory_mb: int
    window_s: int
    log_level: str


@dataclass(frozen=True)
class Design:
    """resources: (type, logical id, properties) of every stack."""

    resources: tuple[tuple[str, str, Mapping[str, Any]], ...]

    def of(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(logical id, properties) of each resource of a type."""
        return ((name, properties) for found, name, properties in self.resources if found == kind)

    def function(self, name: str) -> Function:
        """The function whose handler is lambdas.<name>.handler."""
        for logical_id, properties in self.of("AWS::Lambda::Function"):
            if properties["Handler"] == f"lambdas.{name}.handler":
                windows = [mapping.get("MaximumBatchingWindowInSeconds", 0) for _, mapping in
                           self.of("AWS::Lambda::EventSourceMapping")
                           if mapping["FunctionName"] == {"Ref": logical_id}]
                return Function(properties["MemorySize"], max(windows, default=0),
                                properties["LoggingConfig"]["ApplicationLogLevel"])
        names = sorted(properties["Handler"] for _, properties in self.of("AWS::Lambda::Function"))
        raise DesignFault(f"no function lambdas.{name}.handler; there are {', '.join(names)}")

    def environment(self, *names: str) -> dict[str, str]:
        """The settings of these functions; what only a deployment knows (a topic's ARN) has a placeholder."""
        found = {}
        for name in names:
            for _, properties in self.of("AWS::Lambda::Function"):
                if properties["Handler"] == f"lambdas.{name}.handler":
                    found.update(properties["Environment"]["Variables"])
        return {key: value if isinstance(value, str) else "arn:aws:local" for key, value in found.items()}

    def tables(self) -> dict[str, Mapping[str, Any]]:
        """{"readings": properties, ...}."""
        return {name.lower(): properties for name, properties in self.of("AWS::DynamoDB::Table")}

    def objects_a_month(self, route: str) -> float:
        """Archive objects of a route into which something comes all the time."""
        for name, properties in self.of("AWS::KinesisFirehose::DeliveryStream"):
            if name.lower().startswith(f"{route}archive"):
                hints = properties["ExtendedS3DestinationConfiguration"]["BufferingHints"]
                return MONTH_S / float(hints["IntervalInSeconds"])
        raise DesignFault(f"no delivery stream {route.capitalize()}Archive")

    def actions(self, route: str) -> int:
        """How many actions the rule of a route has."""
        for name, properties in self.of("AWS::IoT::TopicRule"):
            if name.lower() == f"{route}rule":
                return len(properties["TopicRulePayload"]["Actions"])
        raise DesignFault(f"no rule {route.capitalize()}Rule")

    def standing(self, prices: Prices, metrics: int) -> Lines:
        """What a month costs before anything comes, by meter; lines are named after what is paid for.

        metrics: custom metrics, which no template names.
        """
        lines = Lines()
        names = {"cloudwatch.alarm": "alarms", "cloudwatch.composite_alarm": "alarms",
                 "cloudwatch.dashboard": "dashboards", "sqs.request": "idle polling of the queues",
                 "lambda.request": "scheduled functions"}
        for one in fixed(self.resources, prices):
            lines.add(names[one.meter], one.meter, one.quantity)
            if one.meter == "lambda.request":
                memory_mb = self.function("watch").memory_mb
                ms = prices.lambda_ms(invocations=one.quantity, event_bytes=600 * one.quantity,
                                      calls=3 * one.quantity, publishes=0, memory_mb=memory_mb)
                lines.add(names[one.meter], "lambda.gb_s", ms / 1000 * memory_mb / 1024)
                lines.add(names[one.meter], "dynamodb.read_unit", 3 * one.quantity)
        lines.add("custom metrics", "cloudwatch.metric", metrics)
        return lines


def load(directory: Path) -> Design:
    """The design in a cloud assembly (cdk.out)."""
    found = []
    for path in sorted(directory.glob("*.template.json")):
        for name, resource in json.loads(path.read_text())["Resources"].items():
            found.append((resource["Type"], name, resource.get("Properties", {})))
    if not found:
        raise DesignFault(f"{directory} holds no *.template.json; synthesize it: make synth")
    return Design(tuple(found))
