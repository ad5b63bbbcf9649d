"""What every test shares: `needs(service)` and the search for real services on this machine."""
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from deploy.lan_broker import find

if TYPE_CHECKING:
    from local_cloud.pki import LocalCa

def find_service(name: str) -> str | None:
    """Path of a service's program, also where it is not on a user's PATH."""
    return find(name)


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Skip what needs a missing service, and say so; with EDGECLOUD_REQUIRE_ALL=1 (CI) let it fail instead."""
    for item in items:
        for mark in item.iter_markers("needs"):
            service = mark.args[0]
            if find_service(service) is None and os.environ.get("EDGECLOUD_REQUIRE_ALL") != "1":
                item.add_marker(pytest.mark.skip(reason=f"{service} is not installed on this machine"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    """In CI a skip for a missing service is a failure."""
    report = yield
    if report.skipped and os.environ.get("EDGECLOUD_REQUIRE_ALL") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but EDGECLOUD_REQUIRE_ALL=1: {report.longrepr}"
    return report


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> "LocalCa":
    """A certificate authority for the devices of one test module."""
    from local_cloud.pki import LocalCa  # here: most modules need none

    return LocalCa(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty tables for the functions, in moto, and a fresh container."""
    from tests.cloud_tables import cloud  # here: moto takes long to import

    with cloud(monkeypatch):
        yield
