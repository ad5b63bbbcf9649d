"""The services of a local cloud, made without starting one: pollers of what exists, and pages for this machine only."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_cloud.errors import DeployError, Unsupported
from local_cloud.options import Options
from local_cloud.peers import is_this_machine
from local_cloud.services import LocalServices, Place
from local_cloud.web import WebSite
from tests.sockets_rig import binds

NOWHERE = "http://127.0.0.1:9"
SITE = "https://d111111abcdef8.cloudfront.net"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: the CA is made once."""
    return tmp_path_factory.mktemp("state")


def run(directory: Path, story: Callable[[LocalServices], Awaitable[None]], **options: Any) -> None:
    """Run a story with services whose moto answers nowhere."""
    async def main() -> None:
        place = Place(Options(directory, web_port=0, api_port=0, **options), "eu-north-1", directory, NOWHERE, NOWHERE)
        services = LocalServices(place)
        try:
            await asyncio.wait_for(story(services), 60)
        finally:
            await services.close()

    asyncio.run(main())


@pytest.mark.parametrize(("source", "fault", "told"), [
    ("arn:aws:sqs:eu-north-1:123456789012:gone", DeployError, "EventSourceArn: .*:gone is no queue of this deployment"),
    ("arn:aws:kinesis:eu-north-1:123456789012:stream/s", Unsupported, "SQS queues and DynamoDB streams are")])
def test_a_mapping_of_a_source_that_is_not_there_is_refused(
        directory: Path, source: str, fault: type[Exception], told: str) -> None:
    async def story(services: LocalServices) -> None:
        services.functions.create("f", {"Handler": "f.handler", "Runtime": "python3.13"}, directory)
        with pytest.raises(fault, match=told):
            await services.add_poller("m", {"EventSourceArn": source, "FunctionName": "f"})
        with pytest.raises(DeployError, match="FunctionName: nobody is no function of this deployment; there are f"):
            await services.add_poller("m", {"EventSourceArn": source, "FunctionName": "nobody"})
        assert services.pollers == {}

    run(directory, story)


async def no_object(service: str, operation: str, **parameters: Any) -> dict[str, Any]:
    from botocore.exceptions import ClientError
    raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "none"}}, operation)


async def open_page(services: LocalServices) -> None:
    """Open one that answers on the loopback, wherever it listens."""
    await services.open_site("site", SITE, WebSite("bucket", "index.html", {}, no_object, services.addresses))
    _, site = services.sites["site"]
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(site.server.endpoint)
    assert answer.status_code == 403 and "make web" in answer.text, "CloudFront's answer for what is not there"
    assert services.addresses.localized(SITE) == site.server.endpoint


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_pages_listen_where_the_other_ports_do(directory: Path, host: str) -> None:
    async def story(services: LocalServices) -> None:
        with binds() as bound:
            await open_page(services)
            assert [address for _, address in bound] == [(host, 0)]

    run(directory, story, host=host)


def test_a_page_is_for_the_machine_that_it_runs_on(directory: Path) -> None:
    async def story(services: LocalServices) -> None:
        await open_page(services)
        application = services.sites["site"][1].server.served
        for peer, trusted in (("127.0.0.1", True), ("192.168.1.9", False), ("::ffff:127.0.0.1", True)):
            transport = httpx.ASGITransport(application, client=(peer, 40_000))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                answer = await client.get("/")
            assert ("make web" in answer.text) == trusted and answer.status_code == 403, peer

    run(directory, story, host="0.0.0.0")


@pytest.mark.parametrize(("peer", "here", "published"), [
    ("127.0.0.1", True, True), ("::1", True, True), ("::ffff:127.0.0.1", True, True), ("fe80::1%eth0", False, True),
    ("172.17.0.1", False, True), ("192.168.1.9", False, True), ("::ffff:10.0.0.1", False, True),
    ("8.8.8.8", False, False), ("2001:4860:4860::8888", False, False), ("testclient", False, False)])
def test_whose_address_is_this_machines(peer: str, here: bool, published: bool) -> None:
    assert is_this_machine(peer, trust_private=False) is here
    assert is_this_machine(peer, trust_private=True) is published
