"""Whom a secondary hands its replies to, as owners come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from shoal.engine.guard import returns
from shoal.engine.guard.returns import TABLE, Reach, Returns, reach6
from shoal.ownership import initial
from shoal.ownership.events import Mode
from shoal.ownership.state import State, VipView
from shoal.wire.desired import Vip

MACS = {"b": "02:00:00:00:00:0B", "c": "02:00:00:00:00:0c", "new": ""}


class Kernel:
    """Keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[str] = []

    def run(self, batch: bytes) -> None:
        self.batches.append(batch.decode())

    def tries(self, batch: bytes) -> bool:
        return False


def world(monkeypatch: Any) -> tuple[Returns, Kernel]:
    monkeypatch.setattr(returns, "reach4", lambda interface, gateway: Reach(("10.0.0.0/24",), gateway))
    kernel: Any = Kernel()
    return Returns(kernel, "eth0"), kernel


def state(epoch: int, mode: Mode = Mode.READY, holder: str = "", addresses: tuple[str, ...] = ("10.0.0.9",)) -> State:
    vip = Vip(
        id="v",
        addresses=addresses,
        generation=1,
        owner="b",
        members=("b", "a"),
        succession=(),
        list_version=1,
        armed=True,
    )
    return replace(initial(), engine="a", epoch=epoch, vips={"v": VipView(vip=vip, mode=mode, holder=holder)})


def test_there_is_no_table_where_it_is_not_wanted(monkeypatch: Any) -> None:
    ways, kernel = world(monkeypatch)
    ways.want(False, "10.0.0.1", MACS)
    assert kernel.batches == [f"add table {TABLE}\ndelete table {TABLE}"], "an earlier guard's, if there is one"
    ways.follow(state(1, holder="b"))
    ways.want(False, "10.0.0.1", MACS)
    assert len(kernel.batches) == 1


def test_the_last_primary_stays_until_the_next_is_known(monkeypatch: Any) -> None:
    ways, kernel = world(monkeypatch)
    ways.want(True, "10.0.0.1", MACS)
    both = ("10.0.0.9", "2001:db8::9")
    ways.follow(state(1, holder="b", addresses=both))
    assert f"add element {TABLE} primaries {{ 10.0.0.9 : 02:00:00:00:00:0b }}" in kernel.batches[-1]
    assert f"add element {TABLE} primaries6 {{ 2001:db8::9 : 02:00:00:00:00:0b }}" in kernel.batches[-1]
    ways.follow(state(2, holder="b"))
    assert "delete element netdev shoal_returns vips6 { 2001:db8::9 }" in kernel.batches[-1]
    count = len(kernel.batches)
    ways.follow(state(2, holder="c"))
    ways.follow(state(3, holder=""))
    assert len(kernel.batches) == count, "nothing happened; nobody is known to have it"
    ways.follow(state(4, holder="c"))
    assert kernel.batches[-1] == (
        f"delete element {TABLE} primaries {{ 10.0.0.9 : 02:00:00:00:00:0b }}\n"
        f"add element {TABLE} primaries {{ 10.0.0.9 : 02:00:00:00:00:0c }}\n"
    )
    ways.follow(state(5, Mode.WANT, holder="c"))
    ways.follow(state(6, Mode.HELD))
    assert kernel.batches[-1] == (
        f"add element {TABLE} held {{ 10.0.0.9 }}\ndelete element {TABLE} primaries {{ 10.0.0.9 : 02:00:00:00:00:0c }}\n"
    )


def test_a_former_primary_is_silent_until_it_knows_the_next(monkeypatch: Any) -> None:
    ways, kernel = world(monkeypatch)
    ways.want(True, "", MACS)
    ways.follow(state(1, Mode.HELD))
    ways.follow(state(2, Mode.READY))
    assert kernel.batches[-1] == f"delete element {TABLE} held {{ 10.0.0.9 }}\n"
    ways.follow(state(3, Mode.READY, holder="new"))
    assert kernel.batches[-1] == f"delete element {TABLE} held {{ 10.0.0.9 }}\n", "its MAC is not known yet"


def test_where_ipv6_clients_are_is_read_from_the_kernels_tables(monkeypatch: Any, tmp_path: Path) -> None:
    addresses, routes = tmp_path / "if_inet6", tmp_path / "ipv6_route"
    addresses.write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fd990000000000000000000000000015 02 40 00 80     eth0\n"
        "fd990000000000000000000000000100 02 80 00 80     eth0\n"
        "fe800000000000000000000000000015 02 40 20 80     eth0\n"
    )
    none = "00000000000000000000000000000000"
    routes.write_text(
        f"fd990000000000000000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001     eth0\n"
        f"{none} 00 {none} 00 fd990000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
        f"{none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo\n"
    )
    monkeypatch.setattr(returns, "IF_INET6", addresses)
    monkeypatch.setattr(returns, "IPV6_ROUTE", routes)
    assert reach6("eth0") == Reach(("fd99::/64", "fe80::/64"), "fd99::1")
    assert reach6("eth1") == Reach(())
    monkeypatch.setattr(returns, "IF_INET6", tmp_path / "gone")
    assert reach6("eth0") == Reach(())
