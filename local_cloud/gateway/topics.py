"""Topic names and filters: what is valid, what matches what, and which subscribers a topic has.

The broker asks `SubscriptionIndex.matching` for every message it routes.
"""

from __future__ import annotations

import re

from local_cloud.gateway.packets import Subscription

BASIC_INGEST = "$aws/rules/"
CACHED_TOPICS = 4096
_RULE_NAME = re.compile(r"[a-zA-Z0-9_]{1,128}\Z")

Subscribers = dict[str, Subscription]  # by client id


def is_topic_name(topic: str) -> bool:
    """Whether a message may be published to it: not empty, no wildcards."""
    return bool(topic) and "+" not in topic and "#" not in topic


def is_topic_filter(topic_filter: str) -> bool:
    """Whether it may be subscribed to: `+` fills a level alone, `#` the last one alone."""
    if not topic_filter:
        return False
    levels = topic_filter.split("/")
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return False
    return not any("+" in level and level != "+" for level in levels)


def has_wildcard(topic_filter: str) -> bool:
    """Whether the (valid) filter may match more than one topic."""
    return "+" in topic_filter or "#" in topic_filter


def split_basic_ingest(topic: str) -> tuple[str | None, str]:
    """The rule and what follows the prefix: `$aws/rules/r/a/b` is (r, a/b); any other topic is (None, topic)."""
    if not topic.startswith(BASIC_INGEST):
        return None, topic
    rule_name, _, rest = topic[len(BASIC_INGEST):].partition("/")
    return rule_name, rest


def is_rule_name(name: str) -> bool:
    """Whether Basic Ingest may name a rule so."""
    return _RULE_NAME.match(name) is not None


def matches(topic_filter: str, topic: str, hash_matches_parent: bool = True) -> bool:
    """Whether the filter takes the topic. MQTT's `a/#` takes `a` too; AWS IoT's does not (`hash_matches_parent`)."""
    if topic_filter == topic:
        return True
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False  # the standard keeps $ topics from wildcards at the first level
    for index, level in enumerate(wanted):
        if level == "#":
            return index < len(levels) or (hash_matches_parent and index == len(levels))
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


class SubscriptionIndex:
    """Who subscribed to what; remembers which filters matched a topic until the filters change."""

    def __init__(self, hash_matches_parent: bool) -> None:
        self._hash_matches_parent = hash_matches_parent
        self._exact: dict[str, Subscribers] = {}
        self._wild: dict[str, Subscribers] = {}
        self._matched: dict[str, list[Subscribers]] = {}

    def add(self, client_id: str, subscription: Subscription) -> None:
        """Enter or replace a client's subscription."""
        topic_filter = subscription.topic_filter
        table = self._wild if has_wildcard(topic_filter) else self._exact
        if topic_filter not in table:
            table[topic_filter] = {}
            self._matched.clear()
        table[topic_filter][client_id] = subscription

    def remove(self, client_id: str, topic_filter: str) -> None:
        """End a client's subscription; it must exist."""
        table = self._wild if has_wildcard(topic_filter) else self._exact
        del table[topic_filter][client_id]
        if not table[topic_filter]:
            del table[topic_filter]
            self._matched.clear()

    def matching(self, topic: str) -> Subscribers:
        """Subscriptions by client id, the one with the highest QoS where several of a client match."""
        found = self._matched.get(topic)
        if found is None:
            found = self._search(topic)
        if len(found) == 1:
            return found[0]
        merged: Subscribers = {}
        for subscribers in found:
            for client_id, subscription in subscribers.items():
                if client_id not in merged or subscription.qos > merged[client_id].qos:
                    merged[client_id] = subscription
        return merged

    def _search(self, topic: str) -> list[Subscribers]:
        if len(self._matched) >= CACHED_TOPICS:
            self._matched.clear()
        found = [self._exact[topic]] if topic in self._exact else []
        found += [subscribers for topic_filter, subscribers in self._wild.items()
                  if matches(topic_filter, topic, self._hash_matches_parent)]
        self._matched[topic] = found
        return found
