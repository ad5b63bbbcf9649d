"""The fault switchboard: switches of the control port in, faults of the gateway, functions, rules and queues out."""

from collections.abc import Callable
from typing import Any

from local_cloud.gateway import Limits
from local_cloud.observation import gateway
from local_cloud.services import LocalServices

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
    return gateway(services)


def _switch_gateway(services: LocalServices, calls: dict[str, dict[str, Any]]) -> None:
    for name, arguments in calls.items():
        if name not in GATEWAY_SWITCHES:
            raise ValueError(f"unknown gateway switch {name!r}; known: {', '.join(GATEWAY_SWITCHES)}")
        getattr(services.gateway.faults, name)(**arguments)


def _kill_function(services: LocalServices, name: str) -> None:
    services.functions.existing("kill_function", name).kill()


def _switch_rules(services: LocalServices, wanted: dict[str, bool]) -> None:
    for name, enabled in wanted.items():
        if name not in services.rules.names():
            raise ValueError(f"no rule {name!r}; there are {', '.join(services.rules.names()) or 'none'}")
        services.rules.set_enabled(name, bool(enabled))


def _surface_queues(services: LocalServices, wanted: bool) -> None:
    """What a killed function had received need not wait for its visibility time-out, which may be minutes."""
    for queue in services.queues.all() if wanted else ():
        queue.surface()


def _switch_quotas(services: LocalServices, wanted: str) -> None:
    if wanted not in ("lifted", "enforced"):
        raise ValueError(f"quotas {wanted!r}; expected lifted or enforced")
    services.gateway.limits.assign(Limits() if wanted == "enforced" else Limits.lifted())
