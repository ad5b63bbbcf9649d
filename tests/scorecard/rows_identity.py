"""Identity and time rows: publishers restarted, re-flashed and out of time, a bridge renamed or asleep, full spools."""
from deploy.processes import python_module
from tests.scorecard.faults import fault
from tests.scorecard.site import Site, python_code

# Our publisher as it is, but for the machine's clock: 1970 at first, then right, then an hour back and forth.
_WRONG_CLOCK = """
import sys, time
real, start = time.time, time.monotonic()
def wrong():
    age = time.monotonic() - start
    return age if age < 3 else real() + (0, -3600, 3600)[int(age) % 3]
time.time = wrong
from device.publisher import main
sys.exit(main())
"""


@fault("SIGKILL of the publisher, five times, same spool")
def publisher_killed(site: Site) -> None:
    site.start(1)
    [device] = site.publishers
    for _ in range(5):
        site.flowing(20)
        site.publishers[device].kill()
        site.start_publisher(device, python_module("device.publisher"), 50)


@fault("publisher re-flashed: a new spool under the same name")
def publisher_reflashed(site: Site) -> None:
    site.start(1)
    [device] = site.publishers
    for number in range(2):
        site.flowing(40)
        site.end_publishers()
        spool = site.spool(device)
        for part in spool.parent.glob(spool.name + "*"):
            part.rename(part.with_name(f"old-{number}-{part.name}"))
        site.start_publisher(device, python_module("device.publisher"), 50)


@fault("publisher's clock at 1970, then jumping by an hour")
def clock_jumps(site: Site) -> None:
    site.start_bridge()
    site.start_publisher(f"{site.name}-1", python_code(_WRONG_CLOCK), 50)
    site.flowing()
    site.let_pass(8)


@fault("publisher's spool full while the broker is away: drops are counted")
def spool_full(site: Site) -> None:
    site.start(2, 50, "--spool-max", "100")
    site.flowing(50)
    site.broker.kill()
    site.let_pass(6)
    site.broker.start()
    site.flowing(50)


@fault("bridge restarted under another LAN client id and other batch limits, a backlog waiting")
def settings_changed(site: Site) -> None:
    site.start()
    site.world.gateway(cut={})
    site.flowing(100)
    site.bridge.stop(15)
    site.settings.update(MQTT_CLIENT_ID="another-bridge", BATCH_AGE="0.2", RECEIPT_TIMEOUT="6")
    site.start_bridge(wait=False)
    site.world.gateway(restore={})
    site.flowing()


@fault("bridge suspended for 50 s: longer than every keep-alive", slow_s=75)
def suspended(site: Site) -> None:
    site.start(2, 20)
    site.suspend(50)
    site.flowing()
