"""Whose a data directory is, and what `down --purge` may remove."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest

from shoal import data_directory
from shoal.clouds.addressing import Addressing
from shoal.errors import Invalid, NotReady


def test_a_new_or_empty_directory_becomes_ours(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (tmp_path / "new" / "deep", empty):
        data_directory.make(folder)
        assert data_directory.is_ours(folder)
        data_directory.make(folder)


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(NotReady, match=r"thesis\.txt"):
        data_directory.make(tmp_path)
    with pytest.raises(NotReady, match="nothing was removed"):
        data_directory.purge(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_purge_removes_ours_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    data_directory.make(folder)
    for name in ("shoal.db", "shoal.db-wal", "controller.log.1", "drill.lock"):
        (folder / name).touch()
    (folder / "engines" / "e1").mkdir(parents=True)
    (folder / "notes").touch()
    data_directory.purge(folder)
    assert os.listdir(folder) == ["notes"]
    (folder / "notes").unlink()
    data_directory.make(folder)
    data_directory.purge(folder)
    assert not folder.exists()
    data_directory.purge(folder)


def test_a_path_that_can_not_be_made_is_told_in_words() -> None:
    with pytest.raises(NotReady, match="/proc/nope"):
        data_directory.make(Path("/proc/nope"))


def test_one_controller_at_a_time_and_it_is_found_without_a_file(tmp_path: Path) -> None:
    id = Addressing.of(tmp_path).id
    assert data_directory.holder(id) is None
    with data_directory.claim(id, tmp_path):
        assert data_directory.holder(id) == os.getpid()
        with pytest.raises(NotReady, match=str(os.getpid())):
            data_directory.claim(id, tmp_path)
    assert data_directory.holder(id) is None


IPV6 = ("::/0", "::/64", "fe80::/64", "ff00::/16", "::ffff:10.0.0.0/112", "fd00::/127", "fd00::1/64")


def test_one_network_of_each_family_is_taken(tmp_path: Path) -> None:
    given = Addressing.of(tmp_path, ["fd00:9::/112", "10.9.0.0/24"])
    assert (given.vip_network, given.vip_network6) == ("10.9.0.0/24", "fd00:9::/112")
    with pytest.raises(Invalid, match="one of IPv6 already"):
        Addressing.of(tmp_path, ["fd00:9::/112", "fd00:8::/112"])


def test_addresses_of_nodes_and_vips_are_apart_and_follow_from_the_path(tmp_path: Path) -> None:
    names = Addressing.of(tmp_path)
    assert names == Addressing.of(tmp_path) and names.subnet6 != Addressing.of(tmp_path / "other").subnet6
    assert names.network6.subnet_of(ipaddress.IPv6Network("fd00::/8")) and names.network6.prefixlen == 64
    last = names.address6(names.node_address(2015))
    for nodes, vips, own in zip(names.nodes, names.vip_networks, names.networks, strict=True):
        assert not nodes.overlaps(vips)
        assert vips.subnet_of(own)  # type: ignore[arg-type]
    assert ipaddress.ip_address(last) in names.nodes[1] and names.address6(names.gateway).endswith("::1")


@pytest.mark.parametrize(
    "network", ["0.0.0.0/0", "127.0.0.0/8", "224.0.0.0/24", "169.254.0.0/16", "10.0.0.0/31", *IPV6]
)
def test_networks_no_service_can_live_in_are_refused(tmp_path: Path, network: str) -> None:
    with pytest.raises(Invalid, match="--vip-network"):
        Addressing.of(tmp_path, [network])
