"""Detector rows: whatever a detector does, readings are acknowledged, sent, and counted once."""
from deploy.processes import wait_until
from tests.scorecard.faults import fault
from tests.scorecard.site import Site


def _with(site: Site, name: str) -> None:
    site.settings.update(SCORED_FIELDS="sensor2", DETECTOR=f"tests.scorecard.bad_detectors:{name}")


@fault("detector takes 0.5 s for a reading: they go on unclassified")
def detector_slow(site: Site) -> None:
    _with(site, "Slow")
    site.start(2, 50)
    site.flowing(300)
    wait_until("readings that were not waited for", lambda: site.status()["unclassified"] > 50, 60)


@fault("detector raises an exception at every third reading")
def detector_fails(site: Site) -> None:
    _with(site, "Failing")
    site.start(2, 50)
    site.flowing(300)
    wait_until("readings without a verdict", lambda: site.status()["unclassified"] > 10, 60)


@fault("detector hangs for ever at its 50th reading")
def detector_hangs(site: Site) -> None:
    _with(site, "Hanging")
    site.start(2, 50)
    site.flowing(300)
    wait_until("readings that were not waited for", lambda: site.status()["unclassified"] > 50, 60)
