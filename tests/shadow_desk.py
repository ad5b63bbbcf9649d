"""What the tests of device shadows share: shadows of one thing, and what they tell."""
import json
from typing import Any

from local_cloud.gateway.shadows import Shadows, asked

CLASSIC, NAMED = "$aws/things/t/shadow", "$aws/things/t/shadow/name/bridge"


class Desk:
    """Shadows of the thing t, and what they told, in order."""

    def __init__(self, per_s: float | None = None) -> None:
        self.now_s = 1000.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.metered: list[tuple[str, int]] = []
        self.shadows = Shadows({"t": None}, lambda topic, payload: self.told.append((topic, json.loads(payload))),
                               lambda: per_s, lambda: self.now_s, lambda *one: self.metered.append(one))

    def send(self, topic: str, payload: Any = b"") -> dict[str, dict[str, Any]]:
        """Publish; what was told then, by the rest of the topic."""
        self.told.clear()
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        request = asked(topic)
        assert request is not None
        self.shadows.answer(request, raw)
        assert all(told.startswith(topic.rpartition("/")[0]) for told, _ in self.told)
        return {told.removeprefix(topic + "/"): message for told, message in self.told}

    def update(self, state: Any, **more: Any) -> dict[str, dict[str, Any]]:
        return self.send(f"{NAMED}/update", {"state": state, **more})

    def get(self) -> dict[str, Any]:
        return self.send(f"{NAMED}/get")["accepted"]

    def refused(self, topic: str, payload: Any = b"") -> tuple[int, str]:
        told = self.send(topic, payload)
        assert list(told) == ["rejected"] and told["rejected"]["timestamp"] == self.now_s
        return told["rejected"]["code"], told["rejected"]["message"]
