"""Everything that a deployment does, done once in the clouds of tests/sites_rig.py: what its roles must allow."""
import itertools
import json
import time
import urllib.request
from decimal import Decimal
from typing import Any

from contract import alerts, routes, topics
from tests.messages import OUTBOX, anomaly
from tests.sites_rig import FOREIGN, HOME, OTHER, Sites

DEVICE, CAMERA = "pi-1", "camera-01"  # the same names at every site
EVENT = {"device_id": CAMERA, "persons_detected": 1}


def get(cloud: Sites, path: str, posted: bytes | None = None, **headers: str) -> Any:
    """What the first deployment's API answers to a GET, or to a POST of these bytes."""
    headers = {**headers, **({"Content-Type": "application/json"} if posted else {})}
    with urllib.request.urlopen(urllib.request.Request(cloud.api().rstrip("/") + path, posted, headers),
                                timeout=60) as answer:
        return json.load(answer)


def ask_everything(cloud: Sites) -> None:
    """Every route of the API for each site, each kind of page, and a POST with a key of its own."""
    for (method, path), site in itertools.product(routes.API, (HOME, OTHER)):
        where = path.replace("{site}", site).replace("{device}", DEVICE)
        get(cloud, where, json.dumps(EVENT).encode() if method == "POST" else None)
    get(cloud, "/data", json.dumps(EVENT).encode(), **{"Idempotency-Key": "one"})
    get(cloud, f"/data?device={CAMERA}")
    for resolution in ("minute", "hour", "day"):
        get(cloud, f"/sites/{HOME}/devices/{DEVICE}/rollups?resolution={resolution}")


def open_an_incident(cloud: Sites, thing: str) -> None:
    """One that began now; in the second deployment its notice is held back."""
    now_ms = int(time.time() * 1000)
    said = alerts.incident(DEVICE, "sensor2", 60, alerts.OPENED, now_ms, 1, Decimal("9.5"), "spike")
    one = anomaly(60, "9.5", received_ms=now_ms, at_ms=now_ms, incident=said)
    assert cloud.publish(thing, (topics.ALERTS, alerts.seal(OUTBOX, DEVICE, [one])[1])) == [0]
    cloud.settled()


def watch(cloud: Sites, deployment: str) -> None:
    """Start the function watch, as its schedule does."""
    answer = cloud.client("lambda").invoke(FunctionName=cloud.name_like("WatchFunction", f"{deployment}Ingest"))
    assert "FunctionError" not in answer, answer["Payload"].read()


def watch_everything(cloud: Sites) -> None:
    """Incidents whose notice is missing, or held although the quiet hours are over."""
    dynamodb = cloud.client("dynamodb")
    for thing, deployment in ((HOME, "EdgeCloud"), (FOREIGN, "Plant2")):
        cloud.publish(thing, (topics.status(thing), json.dumps({"v": 1, "at": int(time.time() * 1000)}).encode()))
        open_an_incident(cloud, thing)
        table = cloud.name("Incidents", f"{deployment}Storage")
        for one in dynamodb.scan(TableName=table)["Items"]:
            if "notice" in one:
                dynamodb.update_item(TableName=table, Key={key: one[key] for key in ("pk", "sk")},
                                     UpdateExpression="REMOVE notice")
        held = {name: {"S": text} for name, text in {"pk": "held", "sk": "x", "of_pk": "x", "of_sk": "x"}.items()}
        dynamodb.put_item(TableName=table, Item={**held, "expires_at": {"N": "9999999999"}})
        watch(cloud, deployment)
    cloud.settled()
