"""The kernel counts the packets of each VIP, for as long as they are wanted."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from shoal.engine.vip_packets import TABLE, PacketCounters
from shoal.wire.desired import Vip

from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]
ONE, OTHER, SIX = "127.0.0.5", "127.0.0.6", "fd00::5"
SENT = 5


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with private_host():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "addr", "add", f"{SIX}/128", "dev", "lo"], check=True)
        yield


def vip(id: str, *addresses: str) -> Vip:
    return Vip(
        id=id,
        addresses=addresses,
        generation=1,
        owner="e",
        members=("e",),
        succession=("e",),
        list_version=1,
        armed=True,
    )


def send(address: str) -> None:
    """From the address to itself: each packet goes and comes, with the VIP as source and destination."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        link.bind((address, 0))
        for _ in range(SENT):
            link.sendto(b"x", link.getsockname())


def there() -> bool:
    return TABLE in subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout


async def counted(counters: PacketCounters) -> dict[str, int]:
    return {one.id: one.packets for one in await counters.counted()}


async def test_both_families_and_both_directions_are_counted_by_vip() -> None:
    counters = PacketCounters()
    await counters.want([vip("one", ONE, SIX), vip("other", OTHER)])
    for address in (ONE, SIX):
        send(address)
    assert await counted(counters) == {"one": 2 * 2 * SENT, "other": 0}


async def test_others_come_and_go_without_a_count_lost() -> None:
    counters = PacketCounters()
    await counters.want([vip("one", ONE), vip("other", OTHER)])
    send(ONE)
    send(OTHER)
    await counters.want([vip("one", ONE), vip("new", OTHER)])
    send(OTHER)
    assert await counted(counters) == {"one": 2 * SENT, "new": 2 * SENT}


async def test_there_is_no_table_while_nothing_is_wanted_and_a_former_agents_goes() -> None:
    counters = PacketCounters()
    await counters.want([])
    assert not there() and await counted(counters) == {}
    await counters.want([vip("one", ONE)])
    assert there()
    await counters.want([])
    assert not there()
    await counters.want([vip("one", ONE)])
    later = PacketCounters()
    await later.want([])
    assert not there()


async def test_an_agent_that_starts_again_begins_at_zero() -> None:
    former = PacketCounters()
    await former.want([vip("one", ONE)])
    send(ONE)
    later = PacketCounters()
    await later.want([vip("one", ONE)])
    assert await counted(later) == {"one": 0}
    send(ONE)
    assert await counted(later) == {"one": 2 * SENT}
