"""POST /sites/{site}/live: somebody watches; from a request to `live_until` in the shadows of the site's bridges."""
import os
import time

from contract import numbers, shadow, topics
from lambdas import table
from lambdas.api_request import Answer, Problem, Request, site_of

LIVE_S = 120  # a page that is open asks again after half of it


def post_live(request: Request) -> Answer:
    """Each bridge of the site sends at once until `live_until` (seconds since 1970, the cloud's clock)."""
    site = site_of(request)
    things = [thing for thing in os.environ["THINGS"].split(",") if table.site_of(thing) == site]
    if not things:
        raise Problem(404, f"No site {site!r}; GET /status lists the sites.")
    live_until = int(time.time()) + LIVE_S
    document = numbers.dumps(shadow.update("desired", {"live_until": live_until}))
    for thing in things:
        table.client("iot-data").update_thing_shadow(thingName=thing, shadowName=topics.SHADOW, payload=document)
    return 200, {"site": site, "live_until": live_until}
