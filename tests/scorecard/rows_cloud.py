"""Cloud rows: the functions die over their work, and an outbox from yesterday comes back."""
import shutil

from deploy.processes import wait_until
from tests.scorecard.faults import fault
from tests.scorecard.site import Site


@fault("SIGKILL of the functions that store and count, four times, messages in their hands")
def functions_killed(site: Site) -> None:
    site.settings["RECEIPT_TIMEOUT"] = "60"  # the queues deliver again, not the bridge
    site.start(4, 100)
    for _ in range(4):
        site.flowing(200)
        for name in site.world.functions("persist", "aggregate"):
            site.world.kill_function(name)
        site.let_pass(site.chance.uniform(0.2, 1))
        site.world.surface()


@fault("outbox restored from an older copy: what was sealed in it goes out again")
def outbox_restored(site: Site) -> None:
    site.start()
    site.world.rules(False)  # PUBACK, but no receipt: it is sealed, and stays in the outbox
    site.flowing(100)
    site.end_publishers()
    wait_until("everything sealed and accepted", lambda: _accepted(site), 30)
    site.bridge.stop(15)
    copy = site.directory / "copy"
    shutil.copytree(site.outbox.parent, copy)
    site.world.rules(True)
    site.start_bridge()
    wait_until("an empty outbox", lambda: site.waiting() == 0, 60)
    site.bridge.stop(15)
    shutil.rmtree(site.outbox.parent)
    copy.rename(site.outbox.parent)
    site.start_bridge()
    assert site.waiting() > 100, "the older copy holds nothing: this row proves nothing"
    site.publish(1)
    site.flowing(50)


def _accepted(site: Site) -> bool:
    waiting = site.status().get("waiting", {})
    return bool(waiting) and waiting["unreceipted"] > 100 and sum(waiting.values()) == waiting["unreceipted"]
