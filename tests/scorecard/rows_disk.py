"""Disk rows: power cuts that leave only what was fsynced, a full disk, one that fails; controls that must lose."""
from deploy.processes import wait_until
from tests.scorecard import durable
from tests.scorecard.durable import Disk
from tests.scorecard.faults import fault
from tests.scorecard.site import Site, python_code

CUTS = 4
# The bridge as it is, but for one pragma: SQLite is told to sync less.
_WEAKENED = """
import runpy, sqlite3, sys
real = sqlite3.connect
def connect(*arguments, factory=sqlite3.Connection, **more):
    class Weakened(factory):
        def execute(self, sql, *values):
            return super().execute(sql.replace("synchronous = FULL", "synchronous = %s"), *values)
    return real(*arguments, factory=Weakened, **more)
sqlite3.connect = connect
sys.argv = ["edge_bridge"]
runpy.run_module("edge_bridge", run_name="__main__", alter_sys=True)
"""


def _disk(site: Site) -> Disk:
    disk = Disk(site.outbox.parent, site.directory / "disk")
    site.settings.update(disk.environment())
    return disk


def _cut_power(site: Site, cuts: int) -> None:
    """The bridge's machine loses power, the cloud out of reach half the time; publishers and broker have their own."""
    disk = _disk(site)
    site.start(2, 100)
    for cut in range(cuts):
        if cut % 2:
            site.world.gateway(cut={})
        site.flowing(20)
        site.let_pass(site.chance.uniform(0, 0.6))
        site.kill_bridge()
        disk.cut_power()
        site.world.gateway(restore={})
        site.start_bridge()


@fault(f"power cut at {CUTS} random instants: only what was fsynced is left", runs=3, full_runs=50,
       absent=durable.missing, slow_s=40)
def power_cut(site: Site) -> None:
    _cut_power(site, CUTS)


@fault("power cut with synchronous=NORMAL", control=True, full_runs=5, absent=durable.missing, slow_s=40)
def power_cut_normal(site: Site) -> None:
    site.bridge_command = python_code(_WEAKENED % "NORMAL")
    _cut_power(site, CUTS)


@fault("power cut with synchronous=OFF", control=True, full_runs=5, absent=durable.missing, slow_s=40)
def power_cut_off(site: Site) -> None:
    site.bridge_command = python_code(_WEAKENED % "OFF")
    _cut_power(site, CUTS)


@fault("disk full for 6 s, twice", absent=durable.missing)
def disk_full(site: Site) -> None:
    disk = _disk(site)
    site.start()
    for _ in range(2):
        disk.fill(True)
        site.let_pass(6)
        disk.fill(False)
        site.flowing(20)


def _outgrow_the_limit(site: Site, when_full: str) -> None:
    """The cloud is away from the start, so that what is dropped cannot have reached it."""
    site.settings.update(RETENTION_BYTES="1M", FULL=when_full)
    site.world.gateway(cut={})
    site.start_bridge(wait=False)
    site.publish(4, 400)
    wait_until("the LAN broker", lambda: site.connected("mqtt"), 30)
    site.let_pass(8)
    site.world.gateway(restore={})
    wait_until("the cloud", lambda: site.connected("cloud"), 30)


@fault("retention limit of 1 MB reached: the bridge stops acknowledging")
def retention_stop(site: Site) -> None:
    _outgrow_the_limit(site, "stop")


@fault("retention limit of 1 MB reached: the oldest are dropped, and counted")
def retention_drop(site: Site) -> None:
    site.bridge_may_drop = True
    _outgrow_the_limit(site, "drop-oldest")
    if not site.status()["dropped"]:
        raise AssertionError("nothing was dropped: the limit was not reached")


@fault("fsync fails with an I/O error for 6 s, then power cut", absent=durable.missing)
def disk_fails(site: Site) -> None:
    disk = _disk(site)
    site.start()
    disk.fail(True)
    site.let_pass(6)
    site.kill_bridge()
    disk.fail(False)
    disk.cut_power()
    site.start_bridge()
    site.flowing()
    wait_until("the cloud", lambda: site.connected("cloud"), 30)
