"""What a single status, alert and camera event costs, by the code that runs; for the lines beside the readings."""
from decimal import Decimal

from contract import alerts, batch, numbers, routes
from deploy.cost_cloud import Cloud, Handler, minutes
from deploy.cost_design import Design
from deploy.cost_meters import ALERTS, EVENTS, STATUS, Lines
from deploy.cost_site import OUTBOX
from deploy.cost_tables import START_MS, tables
from lambdas import aggregate, alert, hours, persist, status
from local_cloud.cost.meter import IOT_STEP_BYTES, steps
from local_cloud.cost.prices import Prices

STATUS_EVERY_S = 30
EVENTS_EVERY_S = 10  # sealed together, as readings are
_HANDLERS: dict[str, Handler] = {"persist": persist.handler, "alert": alert.handler, "status": status.handler}


def status_message(devices: int) -> bytes:
    """A bridge's ledger with as many figures as edge_bridge.status gives."""
    counts = {name: 123_456 for name in (
        "received", "committed", "sent", "delivered", "alerts_delivered", "dropped", "dead_lettered", "repeats",
        "possible_duplicates", "out_of_turn", "skipped", "anomalies", "unclassified", "clock_untrusted", "replayed",
        "dead_letters_dropped", "salvages", "lost")}
    figures = {f"figure_of_the_uplink_{n}": Decimal("1234.567") for n in range(20)}
    each = {**{name: 123_456 for name in ("received", "committed", "sent", "delivered", "anomalies", "waiting")},
            "normal": {"sensor2": [Decimal("0.312345"), Decimal("0.687654")]}}
    return numbers.dumps({
        "v": 1, "thing": "EdgeCloudAWS", "version": "1.0.0", "at": START_MS, "started": START_MS,
        "connected": {"cloud": True, "mqtt": True, "kafka": True}, **counts,
        "waiting": {"alerts": 0, "live": 100, "backfill": 0, "unreceipted": 100}, **figures, "alarms": {},
        "devices": {f"pi-{n}": each for n in range(devices)}, "devices_left_out": 0}).encode()


def alert_message() -> bytes:
    """One anomaly, with its band and incident."""
    number = 1795332240000000
    incident = alerts.incident("pi-1", "sensor2", number, alerts.OPENED, START_MS, 1, Decimal("1.2031"), "spike")
    return bytes(alerts.seal(OUTBOX, "pi-1", [alerts.Classified(
        number, START_MS + 5, Decimal(START_MS) / 1000, START_MS, "sensor2", Decimal("1.2031"), Decimal("1.2031"), True,
        Decimal("-0.61"), Decimal("0.3512"), Decimal("0.6488"), "spike", incident)])[1])


def events_message(events: int, first: int) -> bytes:
    """A batch of a camera's events, one a second."""
    rows = []
    for n in range(first, first + events):
        at_ms = START_MS + n * 1000
        rows.append(batch.Row(1795332240000000 + n, at_ms + 20, Decimal(at_ms) / 1000, at_ms, None, None,
                              {"persons_detected": Decimal(n % 7)}, {}, None, ("edge-data", 0, n, at_ms)))
    return bytes(batch.seal_series("events", OUTBOX, [batch.pack("camera-01", rows)])[1])


def one_status(design: Design, prices: Prices, devices: int) -> Lines:
    """A status message: it goes by a plain topic, so that the console shows it, and is retained."""
    body = status_message(devices)
    lines = _driven(STATUS, [(0.0, body)], design, prices)
    lines.add(STATUS, "iot.message", steps(len(body), IOT_STEP_BYTES))
    for meter in ("dynamodb.gb_month", "dynamodb.backup_gb_month"):
        lines.put(STATUS, meter, 0)  # one item, which each message replaces
    return lines


def one_alert(design: Design, prices: Prices) -> Lines:
    """An alert with its item, incident, notice and receipt."""
    body = alert_message()
    lines = _driven(ALERTS, [(0.0, body)], design, prices)
    lines.add(ALERTS, "iot.message", steps(len(body), IOT_STEP_BYTES))
    return lines


def ten_minutes_of_events(design: Design, prices: Prices) -> Lines:
    """600 events of one camera, an event a second, sealed every ten seconds."""
    sent = [(float(first + EVENTS_EVERY_S), events_message(EVENTS_EVERY_S, first))
            for first in range(0, 600, EVENTS_EVERY_S)]
    return _driven(EVENTS, sent, design, prices)


def _driven(route: str, sent: list[tuple[float, bytes]], design: Design, prices: Prices) -> Lines:
    """Messages of a route through its function, and what they wrote through those behind the tables, all on the line
    of that route."""
    handler = next(one.handler for one in routes.ROUTES if one.name == route)
    lines = Lines()
    with tables(design.tables(), design.environment(handler)) as at:
        cloud = Cloud(route, design, prices, at, lines=lines, line=route, receipts=route)
        written = cloud.through(handler, _HANDLERS[handler], sent)
        counted = cloud.follow("aggregate", aggregate.handler, "readings", written, most=100)
        cloud.follow("hours", hours.handler, "rollups", minutes(counted), most=10_000)
    return lines
