"""What runs, seen from outside: the services in, counters, what is not idle, and a flush for the control port out."""

import asyncio
import contextlib
import time
from typing import Any

from local_cloud.gateway import Limits
from local_cloud.services import LocalServices

PAUSE_S = 0.02
QUIET_ROUNDS = 3


def waiting(services: LocalServices) -> dict[str, str]:
    """What is not idle, by name: pollers, functions and rules with work in hand."""
    found = {}
    for mapping_id, poller in services.pollers.items():
        if not poller.idle():
            found[f"poller {mapping_id}"] = poller.settings.source_arn
    for function in services.functions.all():
        if not function.idle():
            found[f"function {function.name}"] = "runs or waits for a retry"
    if not services.rules.idle():
        found["rules"] = "an action waits for a retry"
    for stream in services.firehose.all():
        if held := stream.waiting():
            found[f"delivery stream {stream.name}"] = f"{held} records not in S3"
    return found


def _work_done(services: LocalServices) -> tuple[float, ...]:
    return (
        *(function.counters["invocations"] for function in services.functions.all()),
        services.rules.counters["messages"],
    )


async def flush(services: LocalServices, deadline_s: float) -> dict[str, Any]:
    """Deliver at once what windows and buffers hold; returns when several rounds in a row found nothing to do.

    {"idle": whether everything was delivered in time, "waiting": what was not, "seconds": how long it took}.
    """
    began_s = time.monotonic()
    quiet = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline_s):
            while quiet < QUIET_ROUNDS:
                before = _work_done(services)
                await asyncio.gather(*(poller.flush() for poller in services.pollers.values()))
                await services.firehose.flush()
                done = not waiting(services) and _work_done(services) == before
                quiet = quiet + 1 if done else 0
                await asyncio.sleep(PAUSE_S)
    left = waiting(services)
    return {"idle": quiet >= QUIET_ROUNDS, "waiting": left, "seconds": round(time.monotonic() - began_s, 3)}


def gateway(services: LocalServices) -> dict[str, Any]:
    """The device gateway's counters, whether quotas are enforced, and the state of its fault switches."""
    found = services.gateway
    return {
        **found.counters.as_dict(),
        "quotas": found.limits != Limits.lifted(),
        "faults": found.faults.state(),
    }


def describe(services: LocalServices, api_calls: dict[str, int]) -> dict[str, Any]:
    """Counters by service, queue depths, fault switches, and what is not idle."""
    left = waiting(services)
    return {
        "idle": not left,
        "waiting": left,
        "gateway": gateway(services),
        "rules": {
            **services.rules.counters,
            "by_rule": {
                name: {"enabled": services.rules.rule(name).enabled, **services.rules.rule(name).counters}
                for name in services.rules.names()
            },
        },
        "queues": {
            queue.name: {**dict(zip(("visible", "in_flight", "delayed"), queue.depth(), strict=True)), **queue.counters}
            for queue in services.queues.all()
        },
        "functions": {
            function.name: {**function.counters, "last_error": function.last_error, "log": str(function.log_path)}
            for function in services.functions.all()
        },
        "pollers": {
            mapping_id: {"source": poller.settings.source_arn, "idle": poller.idle(), **poller.counters}
            for mapping_id, poller in services.pollers.items()
        },
        "firehose": {
            stream.name: {"waiting": stream.waiting(), **stream.counters} for stream in services.firehose.all()
        },
        "alarms": {one["logical_id"]: one["state"] for one in services.alarms.described()},
        "notifications": services.subscriptions.delivered,
        "schedules": services.schedules.describe(),
        "aws_calls": api_calls,
    }
