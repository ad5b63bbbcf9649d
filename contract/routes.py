"""Who receives what: a row = an IoT rule = a queue = an archive prefix; read by infra, the bridge and the tests."""
from collections import namedtuple

from contract import topics

# handler: the Lambda module that takes the route's queue; topic: None for Basic Ingest.
Route = namedtuple("Route", "name handler topic")

ROUTES = (
    Route("readings", "persist", None),
    Route("events", "persist", None),
    Route("alerts", "alert", topics.ALERTS),
    Route("status", "status", topics.status("+")),
)

# Method and path of the HTTP API, in the notation of API Gateway; all served by lambdas/api.py.
API = (
    ("GET", "/data"),
    ("POST", "/data"),
    ("GET", "/devices"),
    ("GET", "/sites/{site}/devices/{device}/readings"),
    ("GET", "/sites/{site}/devices/{device}/rollups"),
    ("GET", "/alerts"),
    ("GET", "/incidents"),
    ("GET", "/status"),
    ("POST", "/sites/{site}/live"),
    ("GET", "/health"),
)
# Of these, what is answered without a token; all else asks for an access token of the deployment's user pool.
OPEN = (("GET", "/health"),)
API_PORT = 5000


def rule_name(deployment, route):
    """Name of a route's IoT rule: `<deployment>_<route>`; two deployments fit one account."""
    return "%s_%s" % (deployment, route)


def sql(route, things):
    """Rule SQL of a route (version 2016-03-23): the message, and the site that the connection proves.

    A rule on a plain topic fires only for this deployment's things.
    """
    select = "SELECT *, clientid() AS site"
    if route.topic is None:
        return select
    return "%s FROM '%s' WHERE %s" % (
        select, route.topic, " OR ".join("clientid() = '%s'" % thing for thing in things))


def receipt(ids):
    """Build what the cloud publishes on edgecloud/receipts/<thing>: these batches and alert messages are stored."""
    return {"v": 1, "ids": sorted(ids)}
