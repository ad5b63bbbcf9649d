"""Detector rows: whatever a detector does, readings are acknowledged, sent, and counted once."""
from deploy.processes import wait_until
from tests.scorecard.faults import fault
from tests.scorecard.site import Site


def _flows_past(site: Site, detector: str, more_than: int) -> None:
    """Two devices' readings flow with this detector, until more of them than given went on without its verdict."""
    site.settings.update(SCORED_FIELDS="sensor2", DETECTOR=f"tests.scorecard.bad_detectors:{detector}")
    site.start(2, 50)
    site.flowing(300)
    wait_until("readings without a verdict", lambda: site.status()["unclassified"] > more_than, 60)


@fault("detector takes 0.5 s for a reading: they go on unclassified")
def detector_slow(site: Site) -> None:
    _flows_past(site, "Slow", more_than=50)


@fault("detector raises an exception at every third reading")
def detector_fails(site: Site) -> None:
    _flows_past(site, "Failing", more_than=10)


@fault("detector hangs for ever at its 50th reading")
def detector_hangs(site: Site) -> None:
    _flows_past(site, "Hanging", more_than=50)
