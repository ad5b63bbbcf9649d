"""`make web`: the dashboard's page, from web/app and npm's uPlot, into the bucket of a deployment, in AWS or in a local
cloud; its config.json says where API and sign-in page are.
"""
import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from deploy import command, npm
from deploy.processes import ROOT
from deploy.target import Target, TargetFault

WEB = ROOT / "web"
CONTENT_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
                 ".js": "text/javascript; charset=utf-8", ".json": "application/json"}
VENDOR = {"vendor/uPlot.esm.js": "uPlot.esm.js", "vendor/uPlot.min.css": "uPlot.min.css"}
# Asked for anew each time, answered 304 while it is the same: no page is made of parts of two versions for long.
CACHE = "no-cache"
HEAD = '<meta charset="utf-8">'
COST = "web-cost.json"


class Addresses(NamedTuple):
    """What the page has to know: API and sign-in page without a slash at the end, the client's id at the user pool."""

    api: str
    sign_in: str
    client: str


def files(addresses: Addresses, cost: Mapping[str, Any] | None = None) -> Iterator[tuple[str, bytes]]:
    """(key, content) of every file of the page. The page itself names the exact addresses that it may ask: what
    CloudFront says of them (infra/web_stack.py) is wider, since it is deployed before the API."""
    for path in sorted((WEB / "app").rglob("*")):
        if path.is_file() and path.suffix in CONTENT_TYPES and path.name != "index.html":
            yield path.relative_to(WEB / "app").as_posix(), path.read_bytes()
    source = npm.installed(WEB, "uplot") / "dist"
    for key, name in VENDOR.items():
        yield key, (source / name).read_bytes()
    config = {"api": addresses.api, "signIn": addresses.sign_in, "client": addresses.client, "cost": cost}
    yield "config.json", json.dumps(config, indent=1).encode()
    page = (WEB / "app" / "index.html").read_text(encoding="utf-8")
    policy = f"connect-src 'self' {addresses.api} {addresses.sign_in}"
    if page.count(HEAD) != 1 or not re.fullmatch(r"[\w:/.' -]+", policy):
        raise TargetFault(f"web/app/index.html: expected {HEAD} once, and addresses of letters, not {policy!r}")
    yield "index.html", page.replace(
        HEAD, f'{HEAD}\n<meta http-equiv="Content-Security-Policy" content="{policy}">').encode()


def publish(s3: Any, bucket: str, addresses: Addresses, cost: Mapping[str, Any] | None = None) -> int:
    """Put every file there, the page itself last, and take away what is no part of it; how many files it has."""
    kept = set()
    for key, content in files(addresses, cost):
        s3.put_object(Bucket=bucket, Key=key, Body=content, CacheControl=CACHE,
                      ContentType=CONTENT_TYPES[Path(key).suffix])
        kept.add(key)
    _remove(s3, bucket, lambda key: key not in kept)
    return len(kept)


def _remove(s3: Any, bucket: str, unwanted: Callable[[str], bool]) -> None:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        found = [{"Key": one["Key"]} for one in page.get("Contents", []) if unwanted(one["Key"])]
        if found:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})


def empty(place: Target) -> None:
    """Take everything away, so that the stack can go."""
    _remove(place.client("s3"), place.parameter("web-bucket"), lambda key: True)


def local_addresses(ready: Mapping[str, Any], parameter: Callable[[str], str]) -> Addresses:
    """Those of a local cloud. ready: what it says of itself; parameter: the value of `/<name>/<what>`."""
    pages = ready["endpoints"]["pages"]
    return Addresses(ready["endpoints"]["api"].rstrip("/"), pages[parameter("sign-in-url")],
                     parameter("dashboard-client"))


def addresses_of(place: Target) -> Addresses:
    """Where API and sign-in page of a deployment are."""
    if place.ready is not None:
        return local_addresses(place.ready, place.parameter)
    return Addresses(place.api_url(), place.parameter("sign-in-url"), place.parameter("dashboard-client"))


def page_url(place: Target) -> str:
    """Where the page is served."""
    address = place.parameter("web-url")
    return str(place.ready["endpoints"]["pages"][address]) if place.ready is not None else address


def cost_of(assembly: Path) -> dict[str, Any]:
    """What a million readings and a month cost by the templates and the price file; ten seconds of arithmetic, kept
    beside the templates."""
    from local_cloud.cost import prices

    templates = b"".join(path.read_bytes() for path in sorted(assembly.glob("*.template.json")))
    of = sha256(templates + prices.FILE.read_bytes()).hexdigest()
    known = assembly / COST
    if known.is_file() and json.loads(known.read_text())["of"] == of:
        return dict(json.loads(known.read_text())["cost"])
    from deploy import cost_design, cost_page
    from deploy.cost_meters import READINGS
    from deploy.cost_site import Site, drive

    table, design = prices.load(), cost_design.load(assembly)
    run = drive(Site(), design, table)
    cost = {"usd_per_million_readings": run.lines.usd(table, READINGS) / run.site.readings * 1e6,
            "fixed_usd_per_month": sum(cost_page.standing(design, "basic", run, table).values()),
            "prices_of": table.as_of}
    known.write_text(json.dumps({"of": of, "cost": cost}))
    return cost


def put(place: Target, assembly: Path | None) -> str:
    """Build and put the page of a deployment; where it is served then. assembly: its templates, for the cost."""
    cost = cost_of(assembly) if assembly is not None and assembly.is_dir() else None
    publish(place.client("s3"), place.parameter("web-bucket"), addresses_of(place), cost)
    return page_url(place)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; empty strings are what an unset make variable gives."""
    parser = argparse.ArgumentParser(prog="make web", description=__doc__)
    command.where(parser)
    parser.add_argument("--assembly", default="", help="the deployment's templates, for the cost shown")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run it; the exit code."""
    asked = arguments(argv)
    place = command.target_of(asked)
    default = ROOT / (".cloud/cdk.out" if place.is_local else "cdk.out.aws")
    print(f"the dashboard: {put(place, Path(asked.assembly) if asked.assembly else default)}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, "web"))
