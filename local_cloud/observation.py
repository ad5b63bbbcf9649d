"""What the control port shows and changes in running services: counters, idleness, flush, fault switches."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from local_cloud.gateway import Limits
from local_cloud.services import LocalServices

PAUSE_S = 0.02
QUIET_ROUNDS = 3
GATEWAY_SWITCHES = (
    "cut",
    "black_hole",
    "restore",
    "throttle",
    "refuse_connects",
    "accept_connects",
    "withhold_puback",
    "delay_puback",
    "fail_puback",
    "drop_before_puback",
    "clear",
)


def waiting(services: LocalServices) -> dict[str, str]:
    """What is not idle, by name: pollers, functions and rules with work in hand."""
    found = {}
    for mapping_id, poller in services.pollers.items():
        if not poller.idle():
            found[f"poller {mapping_id}"] = poller.settings.source_arn
    for name in services.functions.names():
        function = services.functions.by_name(name)
        if function is not None and not function.idle():
            found[f"function {name}"] = "runs or waits for a retry"
    if not services.rules.idle():
        found["rules"] = "an action waits for a retry"
    for name in services.firehose.names():
        held = services.firehose.by_name(name).waiting()
        if held:
            found[f"delivery stream {name}"] = f"{held} records not in S3"
    return found


def _work_done(services: LocalServices) -> tuple[float, ...]:
    functions = [services.functions.by_name(name) for name in services.functions.names()]
    return (
        *(function.counters["invocations"] for function in functions if function is not None),
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


def describe(services: LocalServices, api_calls: dict[str, int]) -> dict[str, Any]:
    """Counters by service, queue depths, fault switches, and what is not idle."""
    functions = {name: services.functions.by_name(name) for name in services.functions.names()}
    queues = {name: services.queues.by_name(name) for name in services.queues.names()}
    left = waiting(services)
    return {
        "idle": not left,
        "waiting": left,
        "gateway": {
            **services.gateway.counters.as_dict(),
            "quotas": services.gateway.limits != Limits.lifted(),
            "faults": services.gateway.faults.state(),
        },
        "rules": {
            **services.rules.counters,
            "by_rule": {
                name: {"enabled": services.rules.rule(name).enabled, **services.rules.rule(name).counters}
                for name in services.rules.names()
            },
        },
        "queues": {
            name: {**dict(zip(("visible", "in_flight", "delayed"), queue.depth(), strict=True)), **queue.counters}
            for name, queue in queues.items()
        },
        "functions": {
            name: {**function.counters, "last_error": function.last_error, "log": str(function.log_path)}
            for name, function in functions.items()
            if function is not None
        },
        "pollers": {
            mapping_id: {"source": poller.settings.source_arn, "idle": poller.idle(), **poller.counters}
            for mapping_id, poller in services.pollers.items()
        },
        "firehose": {
            name: {"waiting": services.firehose.by_name(name).waiting(), **services.firehose.by_name(name).counters}
            for name in services.firehose.names()
        },
        "alarms": {one["logical_id"]: one["state"] for one in services.alarms.described()},
        "notifications": services.subscriptions.delivered,
        "schedules": services.schedules.describe(),
        "aws_calls": api_calls,
    }


def switch(services: LocalServices, switches: dict[str, Any]) -> dict[str, Any]:
    """Set fault switches; ValueError for an unknown one. Returns the switches' state.

    {"gateway": {"throttle": {"bytes_per_s": 1000}}, "kill_function": "name", "rules": {"name": false},
     "surface": true, "quotas": "lifted" | "enforced"}
    """
    known: dict[str, Callable[[LocalServices, Any], None]] = {
        "gateway": _switch_gateway,
        "kill_function": _kill_function,
        "rules": _switch_rules,
        "surface": _surface_queues,
        "quotas": _switch_quotas,
    }
    unknown = sorted(set(switches) - set(known))
    if unknown:
        raise ValueError(f"unknown switch {unknown[0]!r}; known: {', '.join(known)}")
    for name, value in switches.items():
        known[name](services, value)
    return describe(services, {})["gateway"]


def _switch_gateway(services: LocalServices, calls: dict[str, dict[str, Any]]) -> None:
    for name, arguments in calls.items():
        if name not in GATEWAY_SWITCHES:
            raise ValueError(f"unknown gateway switch {name!r}; known: {', '.join(GATEWAY_SWITCHES)}")
        getattr(services.gateway.faults, name)(**arguments)


def _kill_function(services: LocalServices, name: str) -> None:
    function = services.functions.by_name(name)
    if function is None:
        raise ValueError(f"no function {name!r}; there are {', '.join(services.functions.names()) or 'none'}")
    function.kill()


def _switch_rules(services: LocalServices, wanted: dict[str, bool]) -> None:
    for name, enabled in wanted.items():
        if name not in services.rules.names():
            raise ValueError(f"no rule {name!r}; there are {', '.join(services.rules.names()) or 'none'}")
        services.rules.set_enabled(name, bool(enabled))


def _surface_queues(services: LocalServices, wanted: bool) -> None:
    """What a killed function had received need not wait for its visibility time-out, which may be minutes."""
    for name in services.queues.names() if wanted else ():
        queue = services.queues.by_name(name)
        assert queue is not None
        queue.surface()


def _switch_quotas(services: LocalServices, wanted: str) -> None:
    if wanted not in ("lifted", "enforced"):
        raise ValueError(f"quotas {wanted!r}; expected lifted or enforced")
    services.gateway.limits.assign(Limits() if wanted == "enforced" else Limits.lifted())
