"""A whole Shoal with a service on two engines: what a client and the host beyond the data network see of the spreading."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

CONNECTIONS = 40
# Makes so many connections, one after the other, and prints the MACs that answered from the address.
MACS = """
import http.client, json, socket, sys
address, count = sys.argv[1], int(sys.argv[2])
seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)); seen.bind(("eth0", 0x0800))
seen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
macs = set()
for _ in range(count):
    link = http.client.HTTPConnection(address, 80, timeout=5)
    link.request("GET", "/"); assert link.getresponse().read(); link.close()
    seen.setblocking(False)
    try:
        while data := seen.recv(64):
            if data[26:30] == socket.inet_aton(address): macs.add(data[6:12].hex(":"))
    except BlockingIOError:
        pass
print(json.dumps(sorted(macs)))
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with launched(tmp_path) as bench:
        yield bench


def macs(lab: Lab, address: str) -> list[str]:
    command = lab.fabric.enter("lab-client", sys.executable, "-c", MACS, address, str(CONNECTIONS))
    found: list[str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def from_the_host(address: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(CONNECTIONS):
        with direct.open(f"http://{address}/", timeout=5) as answer:
            assert answer.read()


def test_flows_are_shared_as_configured_and_replies_go_the_way_they_should(bench: Bench) -> None:
    async def check() -> None:
        lab = Lab(bench.options.data_dir)
        try:
            async with Api(bench.url, PASSWORD) as api:
                backend = await lab.backend("web")
                await lab.node("client")
                group = await api.post("serviceenginegroup", {"name": "g", "min_scaleout_per_vs": 2, "max_se": 3})
                by_name = "/api/serviceenginegroup?name=g"
                made = await api.service("web", [(backend.address, backend.port)], se_group_ref=by_name)
                await api.placed(made["uuid"], 2)

                async def answered_by(count: int, what: str) -> None:
                    async def look() -> bool:
                        return len(await asyncio.to_thread(macs, lab, made["address"])) == count

                    await api.until(f"{what}: {count} engines answer", look)

                async def set_to(path: str, **fields: object) -> None:
                    await api.call("PATCH", path, {"replace": fields})

                service = f"virtualservice/{made['uuid']}"
                await answered_by(2, "by load")
                await set_to(service, flow_dist="CONSISTENT_HASH_SOURCE_IP_ADDRESS")
                await answered_by(1, "by the client's address")
                changes = (await api.get(f"{service}/runtime"))["last_change"]
                assert {change["how"] for change in changes} == {"none"}, "HAProxy has nothing to do with it"
                await set_to(service, flow_dist="CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT")
                await answered_by(2, "by address and port")
                await asyncio.to_thread(from_the_host, made["address"])
                await set_to(f"serviceenginegroup/{group['uuid']}", se_tunnel_mode=1)
                await answered_by(1, "through the primary")
                await asyncio.to_thread(from_the_host, made["address"])
                await set_to(f"serviceenginegroup/{group['uuid']}", se_tunnel_mode=0)
                await answered_by(2, "direct")
        finally:
            await lab.close()

    asyncio.run(check())
