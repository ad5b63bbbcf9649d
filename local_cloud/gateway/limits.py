"""What a broker allows: the quotas of AWS IoT Core in one table, and where AWS and the MQTT standard part ways.

Read by every connection at each packet, so a value changed at run time holds from the next packet on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

KIB = 1024


@dataclass
class Limits:
    """AWS IoT Core's quotas, per connection where not said otherwise; None lifts one."""

    publishes_per_s: float | None = 100  # in and out together; the excess is discarded
    bytes_per_s: float | None = 512 * KIB  # in and out together; the excess is delayed
    unacked_inbound: int | None = 100
    unacked_outbound: int | None = 100
    payload_bytes: int | None = 128 * KIB
    packet_bytes: int | None = 146 * KIB
    topic_bytes: int | None = 256
    topic_slashes: int | None = 7
    client_id_bytes: int | None = 128
    connect_interval_s: float | None = 1.0  # per client id
    keep_alive_min_s: int | None = 30
    keep_alive_max_s: int | None = 1200
    session_expiry_s: int | None = 3600  # the longest in MQTT 5, the one and only in MQTT 3.1.1
    subscriptions: int | None = 50
    subscriptions_per_request: int | None = 8
    stored_messages_per_s: float | None = 10  # replayed after a reconnect
    topic_aliases: int = 8
    message_expiry_max_s: int | None = 604_800
    shadow_requests_per_s: float | None = 20  # per thing

    @classmethod
    def only(cls, **quotas: Any) -> Limits:
        """No quota but these (topic aliases are a capability and stay). TypeError for one that there is not."""
        lifted = {one.name: None for one in fields(cls) if one.name != "topic_aliases"}
        return cls(**{**lifted, **quotas})

    @classmethod
    def lifted(cls) -> Limits:
        """No quota at all."""
        return cls.only()

    def assign(self, other: Limits) -> None:
        """Take over every value of another table, in place, so that who holds this one sees them."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))


@dataclass(frozen=True)
class Rules:
    """How the broker reads MQTT: as AWS IoT Core does, or as the standard says."""

    hash_matches_parent: bool  # does `a/#` take the topic `a`?
    retained_needs_exact_filter: bool
    reserved_topics: bool  # `$aws/rules/…` is Basic Ingest, other `$` topics are refused
    resumes_across_versions: bool  # may MQTT 5 take up a session of 3.1.1?
    sets_dup: bool
    downgrades_qos2: bool  # grant QoS 1 to a subscription that asks for 2, in place of disconnecting


AWS_RULES = Rules(hash_matches_parent=False, retained_needs_exact_filter=True, reserved_topics=True,
                  resumes_across_versions=False, sets_dup=False, downgrades_qos2=False)
STANDARD_RULES = Rules(hash_matches_parent=True, retained_needs_exact_filter=False, reserved_topics=False,
                       resumes_across_versions=True, sets_dup=True, downgrades_qos2=True)


class TokenBucket:
    """A rate that may be used up to one second ahead. The rate is given at each call: it may change meanwhile."""

    __slots__ = ("_at_s", "_spent")

    def __init__(self, now_s: float) -> None:
        self._spent = 0.0
        self._at_s = now_s

    def _leak(self, per_s: float, now_s: float) -> None:
        self._spent = max(0.0, self._spent - (now_s - self._at_s) * per_s)
        self._at_s = now_s

    def take(self, per_s: float | None, now_s: float) -> bool:
        """Use one if there is one."""
        if per_s is None:
            return True
        self._leak(per_s, now_s)
        if self._spent + 1 > max(per_s, 1):
            return False
        self._spent += 1
        return True

    def spend(self, amount: float, per_s: float | None, now_s: float) -> float:
        """Use an amount in any case; the seconds to wait until the rate is kept again (0: go on)."""
        if per_s is None:
            self._spent = 0.0
            return 0.0
        self._leak(per_s, now_s)
        self._spent += amount
        return max(0.0, (self._spent - per_s) / per_s)

    def wait_s(self, per_s: float | None, now_s: float) -> float:
        """Seconds until one more may be taken."""
        if per_s is None:
            return 0.0
        self._leak(per_s, now_s)
        return max(0.0, (self._spent + 1 - max(per_s, 1)) / per_s)
