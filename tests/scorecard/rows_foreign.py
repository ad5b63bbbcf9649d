"""Rows with a publisher that is not ours: the promise begins where the bridge acknowledges, and a proxy saw that."""
from tests.scorecard import durable
from tests.scorecard.durable import Disk
from tests.scorecard.faults import fault
from tests.scorecard.foreign import ForeignPublisher, identities
from tests.scorecard.recording_proxy import RecordingProxy
from tests.scorecard.site import Site


def _start(site: Site) -> None:
    proxy = RecordingProxy(site.broker.port)
    site.broker_port = proxy.port
    site.others.append(proxy)
    site.acknowledged = lambda: identities(proxy)
    site.start_bridge()  # before the publisher: a broker forgets what nobody has subscribed to
    device = f"{site.name}-1"
    site.others.append(ForeignPublisher(device, site.broker.port, 100, site.record(device)))
    site.flowing()


@fault("foreign publisher: SIGKILL of the bridge, five times")
def foreign_bridge_killed(site: Site) -> None:
    _start(site)
    for _ in range(5):
        site.flowing(20)
        site.let_pass(site.chance.uniform(0, 0.5))
        site.kill_bridge()
        site.start_bridge()


@fault("foreign publisher: power cut at the bridge, three times", absent=durable.missing)
def foreign_power_cut(site: Site) -> None:
    disk = Disk(site.outbox.parent, site.directory / "disk")
    site.settings.update(disk.environment())
    _start(site)
    for _ in range(3):
        site.flowing(20)
        site.let_pass(site.chance.uniform(0, 0.5))
        site.kill_bridge()
        disk.cut_power()
        site.start_bridge()


@fault("foreign publisher: SIGKILL of Mosquitto while the bridge is away, twice")
def foreign_broker_killed(site: Site) -> None:
    _start(site)
    for _ in range(2):
        site.flowing(50)
        site.kill_bridge()
        site.let_pass(1.5, bridge=False)  # the broker saves its state once a second: what came since is gone
        site.broker.kill()
        site.broker.start()
        site.start_bridge()
