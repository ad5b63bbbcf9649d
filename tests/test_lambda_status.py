"""status: a site's newest ledger is kept, whatever order and how often it comes; GET /status answers from it."""
import json
import time
from decimal import Decimal
from typing import Any

import pytest

from contract import numbers, rollups
from lambdas import status, table
from tests.api_rig import call, get, pages, refused
from tests.client_faults import Intercepted, throttled
from tests.cloud_tables import dump, failures, fresh_container, items
from tests.messages import EXAMPLES, SITE, T0_MS, sqs

pytestmark = pytest.mark.usefixtures("tables")


def body(site: str | None = SITE, **fields: Any) -> str:
    """The golden status as the rule hands it on, with some fields different."""
    message = {**numbers.loads((EXAMPLES / "status.json").read_bytes()), **fields}
    return numbers.dumps({**message, "site": site} if site is not None else message)


def told(*bodies: str) -> list[str]:
    return failures(status.handler(sqs(*bodies), None))


def delivered() -> list[int]:
    return [numbers.loads(item["status"])["delivered"] for item in items("rollups")]


def test_one_item_per_site_with_the_whole_message() -> None:
    assert told(body(), body("SiteB")) == []
    first, second = items("rollups")
    assert (first["pk"], first["sk"], first["site"], second["sk"]) == ("status", SITE, SITE, "SiteB")
    assert numbers.loads(first["status"]) == numbers.loads((EXAMPLES / "status.json").read_bytes())
    assert first["at"] == T0_MS and first["expires_at"] > time.time() + 399 * table.DAY_S


def test_an_older_status_and_the_same_again_change_nothing() -> None:
    assert told(body(delivered=2, at=T0_MS + 2), body(delivered=1, at=T0_MS + 1)) == []
    before = dump("rollups")
    assert told(body(delivered=9, at=T0_MS + 2)) == [] and dump("rollups") == before
    assert delivered() == [2]
    assert told(body(delivered=3, at=T0_MS + 3)) == [] and delivered() == [3]


def test_a_status_from_the_future_does_not_shut_out_those_after_the_clock_was_put_right() -> None:
    ahead_ms = int(time.time() * 1000) + rollups.AHEAD_MS + 60_000
    assert told(body(delivered=1, at=ahead_ms)) == [] and delivered() == [1]
    assert told(body(delivered=2, at=int(time.time() * 1000))) == [] and delivered() == [2]


@pytest.mark.parametrize("broken", ["{", "[]", body(None), body(""), body(v=2), body(at="now"), body(at=None),
                                    body(devices=[1]), body(devices={"pi-1": 7}),
                                    body(devices={"pi-1": {"waiting": "x"}}), body(waiting=3),
                                    body(waiting={"live": None}), body(lost="many"), body(dropped=[]),
                                    body(certificate_days="soon")])
def test_what_is_no_status_fails_alone(broken: str) -> None:
    assert told(body(delivered=1), broken, body("SiteB", delivered=2)) == ["m1"]
    assert delivered() == [1, 2]


def test_what_a_bridge_does_not_know_it_may_leave_out() -> None:
    assert told(body(certificate_days=None), numbers.dumps({"v": 1, "at": T0_MS, "site": "SiteB"})) == []
    assert len(get("/status")["sites"]) == 2


def test_a_refusing_table_brings_the_record_again() -> None:
    def refuse_one_site(operation: str, request: Any) -> None:
        if operation == "put_item" and request["Item"]["site"]["S"] == SITE:
            raise throttled(operation)

    Intercepted("dynamodb", refuse_one_site)
    assert told(body(), body("SiteB")) == ["m0"]
    fresh_container()
    assert told(body()) == [] and len(delivered()) == 2


def test_the_answer_is_the_golden_one() -> None:
    assert told(body()) == []
    answer = get("/status")
    golden = numbers.loads((EXAMPLES / "api_status.json").read_bytes())
    [site] = answer["sites"]
    assert 0 <= site["age_s"] < 60
    site["age_s"] = golden["sites"][0]["age_s"]
    assert answer == golden


def test_the_ledger_of_a_device_names_everything_also_what_is_zero() -> None:
    told(body(devices={"pi-9": {"committed": 7, "skipped": 4}}, new_field={"kept": True}))
    [site] = get("/status")["sites"]
    assert site["devices"] == [{"device": "pi-9", "committed": 7, "delivered": 0, "waiting": 0, "dropped": 0,
                                "dead_lettered": 0, "skipped": 4, "gaps": 4}]
    assert site["new_field"] == {"kept": True}
    assert get("/status", limit=1)["next"] is None


def test_sites_come_page_by_page_and_numbers_exactly() -> None:
    sites = ["A", "A-1", "A:2", "B"]
    told(*(body(site, drain_eta_s=Decimal("0.10000000000000000000001")) for site in sites))
    told_of = [one for page in pages("/status", limit=1) for one in page["sites"]]
    assert [one["site"] for one in told_of] == sites
    assert {one["drain_eta_s"] for one in told_of} == {Decimal("0.10000000000000000000001")}
    assert "cursor" in refused(400, "GET /status", cursor="nonsense")


def test_no_bridge_has_told_anything_yet() -> None:
    assert call("GET /status")[:2] == (200, {"sites": [], "next": None})
    assert json.loads(body())["v"] == 1
