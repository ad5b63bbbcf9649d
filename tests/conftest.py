"""What every test shares: `needs(service)` and the search for real services on this machine."""
import os
import shutil
from collections.abc import Iterable

import pytest

BREW_AND_SBIN = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/bin"))


def find_service(name: str) -> str | None:
    """Path of a service's program, also where it is not on a user's PATH."""
    return shutil.which(name) or shutil.which(name, path=BREW_AND_SBIN)


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
