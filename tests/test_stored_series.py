"""A series in the readings table: compressed, read back exactly, from clients and from stream records; old ones too."""
import base64
from decimal import Decimal

import pytest
from boto3.dynamodb.types import Binary

from contract import batch, numbers
from lambdas import table, table_items
from tests.cloud_tables import aggregated, cloud, items, persisted
from tests.messages import SITE, by_rule, row, sealed

ROWS = [row(n, {"sensor1": f"{20 + n % 7 / 100:.2f}", "sensor2": "0.5012"}) for n in range(100)]
SERIES = numbers.loads(batch.pack("pi-1", ROWS))


@pytest.fixture(autouse=True)
def fresh_cloud(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with cloud(monkeypatch):
        yield


@pytest.mark.parametrize("wrap", (bytes, Binary, bytearray, lambda held: numbers.dumps(SERIES).encode(),
                                  lambda held: numbers.dumps(SERIES), lambda held: SERIES))
def test_a_stored_series_is_read_however_it_comes(wrap) -> None:  # type: ignore[no-untyped-def]
    assert batch.unpack(wrap(batch.stored(SERIES))) == ROWS


def test_it_takes_less_than_half_the_room() -> None:
    assert len(batch.stored(SERIES)) < len(numbers.dumps(SERIES)) / 2


def test_it_is_the_same_each_time() -> None:
    assert batch.stored(SERIES) == batch.stored(numbers.loads(batch.pack("pi-1", ROWS)))


def test_the_table_holds_it_and_gives_it_back() -> None:
    persisted(by_rule(sealed("readings", {"pi-1": ROWS})))
    [item] = items("readings")
    assert isinstance(item["series"], Binary) and table_items.rows_of(item) == ROWS


def test_an_item_of_before_is_read_as_well() -> None:
    item = table_items.readings_item(SITE, "0" * 24, SERIES) | {"series": numbers.dumps(SERIES)}
    assert table_items.rows_of(table.from_attributes(table.to_attributes(item))) == ROWS


def test_a_stream_record_carries_it_as_base64_text() -> None:
    """boto3 hands bytes over, Lambda's event has text."""
    held = table.to_attributes(table_items.readings_item(SITE, "0" * 24, SERIES))
    held["series"] = {"B": base64.b64encode(held["series"]["B"]).decode()}
    assert table_items.rows_of(table.from_attributes(held)) == ROWS
    record = {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "1", "NewImage": held,
                                                  "Keys": {key: held[key] for key in ("pk", "sk")}}}
    assert aggregated([record]) == {"batchItemFailures": []}
    [entry] = [value for item in items("rollups") if item["sk"].startswith("m#")
               for key, value in item.items() if key == "0" * 24]
    assert entry["sensor2"][0] == 100 and entry["sensor2"][2] == Decimal("0.5012")


def test_a_new_device_is_listed_before_its_roll_ups() -> None:
    persisted(by_rule(sealed("readings", {"pi-9": ROWS})))
    assert [item["sk"] for item in items("rollups") if item["pk"] == "devices"] == [f"readings#{SITE}#pi-9"]
