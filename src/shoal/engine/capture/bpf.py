"""A `Selection` as a classic BPF program for SO_ATTACH_FILTER, so that the kernel copies only what is asked for. Pure.

The frame begins with its Ethernet header (a VLAN tag is taken off by the kernel). A program goes forward only; blocks
are tests of which the first that fails leaves the block. See bpf(4) and Documentation/networking/filter.rst.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from shoal.observe.frames import Instruction
from shoal.wire.capture import SNAP_BYTES_MAX, Selection

INSTRUCTIONS_MAX = 1200
"""The kernel takes 4,096, but what it makes of them (up to twice as many, 8 bytes each) must fit a socket's option
memory, of which there are 20 KB by default (net.core.optmem_max)."""
JUMP_MAX = 250
"""Conditional jumps reach 255 instructions."""

LOAD_WORD, LOAD_HALF, LOAD_BYTE, LOAD_MEMORY = 0x20, 0x28, 0x30, 0x60
LOAD_HALF_INDEXED, LOAD_BYTE_INDEXED = 0x48, 0x50
LOAD_INDEX_HEADER_LENGTH = 0xB1
STORE, AND, JUMP, RETURN = 0x02, 0x54, 0x05, 0x06
EQUAL, GREATER, AT_LEAST, ANY_BIT = 0x15, 0x25, 0x35, 0x45

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
TCP, UDP = 6, 17
SOURCE, DESTINATION = 0, 1
SOURCE_PORT, DESTINATION_PORT = 2, 3
"""Cells of scratch memory; the IPv4 addresses are in the cells 0 and 1."""
IPV6_ADDRESS = (22, 38)
IPV6_CELL = (4, 8)
"""Where an address is in the frame, and its four words in the scratch memory: a load from the frame is costly."""
IPV6_FLAGS, IPV4_FLAGS_BEHIND_HEADER = 14 + 40 + 13, 14 + 13
ANY_PORT = (0, 65535)
WORD_BITS = 32

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TooMany(ValueError):
    """The program would be longer than the kernel takes."""


class _Test:
    """A jump that leaves its block when the comparison comes out as ``leave_if``."""

    def __init__(self, code: int, k: int, *, leave_if: bool) -> None:
        self.code, self.k, self.leave_if = code, k, leave_if


def program(selection: Selection, snap: int) -> list[Instruction]:
    """Accepts ``snap`` bytes (0 = all) of each packet that is selected. Raises TooMany; ValueError for a bad address."""
    keep = snap or SNAP_BYTES_MAX
    v4, v6 = _family(selection, keep, 4), _family(selection, keep, 6)
    whole: list[Instruction] = [(LOAD_HALF, 0, 0, 12)]
    whole += [(EQUAL, 1, 0, ETHERTYPE_IPV4), (JUMP, 0, 0, len(v4)), *v4]
    whole += [(EQUAL, 1, 0, ETHERTYPE_IPV6), (RETURN, 0, 0, 0), *v6]
    if len(whole) > INSTRUCTIONS_MAX:
        raise TooMany(f"{len(selection.endpoints)} addresses and ports make a filter of {len(whole)} instructions")
    return whole


def _family(selection: Selection, keep: int, version: int) -> list[Instruction]:
    """All that is asked of a packet of this IP version; ends by accepting or dropping it."""
    drop: list[Instruction] = [(RETURN, 0, 0, 0)]
    wanted = [(ipaddress.ip_network(end.address), end) for end in selection.endpoints]
    wanted = [(network, end) for network, end in wanted if network.version == version]
    if not wanted:
        return drop
    lines = _head_v4(selection.flags) if version == 4 else _head_v6(selection.flags)
    for ports, cell in ((selection.source_ports, SOURCE_PORT), (selection.destination_ports, DESTINATION_PORT)):
        if ports != ANY_PORT:
            lines += _unless(_port(cell, *ports), drop)
    if selection.hosts:
        lines += _one_of(
            [_host(net, side) for net in _nets(selection.hosts, version) for side in (SOURCE, DESTINATION)]
        )
    for network in _nets(selection.but_hosts, version):
        for side in (SOURCE, DESTINATION):
            lines += _block(_host(network, side), drop)
    groups: dict[tuple[int, int], list[Network]] = {}
    for network, end in wanted:
        groups.setdefault((end.port, end.port_end), []).append(network)
    for ports, networks in groups.items():
        for side, cell in ((SOURCE, SOURCE_PORT), (DESTINATION, DESTINATION_PORT)):
            accept = _any_host(networks, side, keep)
            lines += _unless(_port(cell, *ports), [(JUMP, 0, 0, len(accept))]) + accept
    return lines + drop


def _head_v4(flags: int) -> list[Instruction]:
    """No later fragments (they have no ports); addresses and ports into the scratch memory."""
    lines = _protocol(23, flags)
    lines += _unless([(LOAD_HALF, 0, 0, 20), _Test(ANY_BIT, 0x1FFF, leave_if=True)], [(RETURN, 0, 0, 0)])
    lines.append((LOAD_INDEX_HEADER_LENGTH, 0, 0, 14))
    loads = ((LOAD_WORD, 26), (LOAD_WORD, 30), (LOAD_HALF_INDEXED, 14), (LOAD_HALF_INDEXED, 16))
    for cell, (code, offset) in enumerate(loads):
        lines += [(code, 0, 0, offset), (STORE, 0, 0, cell)]
    return lines + _flags((LOAD_BYTE_INDEXED, 0, 0, IPV4_FLAGS_BEHIND_HEADER), flags)


def _head_v6(flags: int) -> list[Instruction]:
    """Packets with extension headers are passed over."""
    lines = _protocol(20, flags)
    for cell, offset in ((SOURCE_PORT, 54), (DESTINATION_PORT, 56)):
        lines += [(LOAD_HALF, 0, 0, offset), (STORE, 0, 0, cell)]
    for start, first in zip(IPV6_ADDRESS, IPV6_CELL, strict=True):
        for word in range(4):
            lines += [(LOAD_WORD, 0, 0, start + 4 * word), (STORE, 0, 0, first + word)]
    return lines + _flags((LOAD_BYTE, 0, 0, IPV6_FLAGS), flags)


def _protocol(offset: int, flags: int) -> list[Instruction]:
    """TCP or UDP; TCP only where its flags are asked for."""
    lines: list[Instruction] = [(LOAD_BYTE, 0, 0, offset)]
    if flags:
        return [*lines, (EQUAL, 1, 0, TCP), (RETURN, 0, 0, 0)]
    return [*lines, (EQUAL, 2, 0, TCP), (EQUAL, 1, 0, UDP), (RETURN, 0, 0, 0)]


def _flags(load: Instruction, flags: int) -> list[Instruction]:
    return [load, (ANY_BIT, 1, 0, flags), (RETURN, 0, 0, 0)] if flags else []


_Item = Instruction | _Test


def _host(network: Network, side: int) -> list[_Item]:
    """The address of one side is in the network."""
    items: list[_Item] = []
    words = network.max_prefixlen // WORD_BITS
    for number in range(words):
        shift = (words - 1 - number) * WORD_BITS
        mask = int(network.netmask) >> shift & 0xFFFFFFFF
        if not mask:
            break
        items.append((LOAD_MEMORY, 0, 0, side if network.version == 4 else IPV6_CELL[side] + number))
        if mask != 0xFFFFFFFF:
            items.append((AND, 0, 0, mask))
        items.append(_Test(EQUAL, int(network.network_address) >> shift & 0xFFFFFFFF, leave_if=False))
    return items


def _any_host(networks: Sequence[Network], side: int, keep: int) -> list[Instruction]:
    """Accept if the address of one side is one of these; else on. One instruction for each address of IPv4."""
    if networks[0].version == 6:
        return [line for network in networks for line in _block(_host(network, side), [(RETURN, 0, 0, keep)])]
    lines: list[Instruction] = [(LOAD_MEMORY, 0, 0, side)]
    for start in range(0, len(networks), JUMP_MAX):
        some = networks[start : start + JUMP_MAX]
        lines += [(EQUAL, len(some) - at, 0, int(network.network_address)) for at, network in enumerate(some)]
        lines += [(JUMP, 0, 0, 1), (RETURN, 0, 0, keep)]
    return lines


def _port(cell: int, low: int, high: int) -> list[_Item]:
    load = (LOAD_MEMORY, 0, 0, cell)
    if low == high:
        return [load, _Test(EQUAL, low, leave_if=False)]
    return [load, _Test(AT_LEAST, low, leave_if=False), _Test(GREATER, high, leave_if=True)]


def _nets(texts: Iterable[str], version: int) -> list[Network]:
    networks = (ipaddress.ip_network(text, strict=False) for text in texts)
    return [network for network in networks if network.version == version]


def _block(items: Sequence[_Item], then: Sequence[Instruction]) -> list[Instruction]:
    """``then`` if every test holds; else on behind it."""
    end = len(items) + len(then)
    lines: list[Instruction] = []
    for at, item in enumerate(items):
        if isinstance(item, _Test):
            away = end - at - 1
            lines.append((item.code, away, 0, item.k) if item.leave_if else (item.code, 0, away, item.k))
        else:
            lines.append(item)
    return [*lines, *then]


def _unless(items: Sequence[_Item], then: Sequence[Instruction]) -> list[Instruction]:
    """``then`` if a test fails; else on behind it."""
    return _block(items, [(JUMP, 0, 0, len(then))]) + list(then)


def _one_of(alternatives: Sequence[Sequence[_Item]]) -> list[Instruction]:
    """On if one of them holds, else drop."""
    sizes = [len(items) + 1 for items in alternatives]
    lines: list[Instruction] = []
    for at, items in enumerate(alternatives):
        lines += _block(items, [(JUMP, 0, 0, sum(sizes[at + 1 :]) + 1)])
    return [*lines, (RETURN, 0, 0, 0)]
