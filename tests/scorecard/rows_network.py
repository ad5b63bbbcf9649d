"""Network rows: what a link does between the bridge and the cloud."""
from deploy.processes import wait_until
from tests.scorecard.faults import fault
from tests.scorecard.site import Site


def _on_off(site: Site, times: int, seconds: float) -> None:
    for _ in range(times):
        site.world.gateway(cut={})
        site.let_pass(seconds)
        site.world.gateway(restore={})
        site.let_pass(seconds)


@fault("link cut, 5 s off and 5 s on, three times", slow_s=40)
def link_cut(site: Site) -> None:
    site.start()
    _on_off(site, 3, 5)


@fault("link flapping, 1 s off and 1 s on, ten times", slow_s=35)
def link_flapping(site: Site) -> None:
    site.start()
    _on_off(site, 10, 1)


@fault("black hole for 50 s: longer than the keep-alive", slow_s=75)
def black_hole(site: Site) -> None:
    site.start(2, 20)
    site.world.gateway(black_hole={})
    site.let_pass(50)
    site.world.gateway(restore={})


@fault("link throttled to 3,000 bytes/s for 15 s", slow_s=35)
def throttled(site: Site) -> None:
    site.start(2, 100)
    site.world.gateway(throttle={"bytes_per_s": 3000})
    site.let_pass(15)
    site.world.gateway(throttle={"bytes_per_s": None})


@fault("no cloud at start; the backlog drains though nothing new arrives")
def backlog_without_new_readings(site: Site) -> None:
    site.world.gateway(cut={})
    site.start_bridge(wait=False)
    site.publish(2, 200)
    wait_until("a backlog", lambda: site.waiting() > 1500, 30)
    site.end_publishers()
    site.kill_bridge()
    site.start_bridge(wait=False)
    site.world.gateway(restore={})


@fault("ten times the rate for 5 s")
def burst(site: Site) -> None:
    site.start(2, 30)
    site.publish(2, 300)
    site.let_pass(5)
