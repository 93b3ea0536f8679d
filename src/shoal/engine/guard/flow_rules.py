"""The rules that write the tables of IPv6 flows, of TCP and UDP, as netlink messages: libnftables 1.0.6 (Debian 12) ends
the process when it is given an update of a map whose key is longer than 16 bytes.

Each rule is alone in a chain of its own, to which the rules in text jump (see `shoal.engine.guard.nft`).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping

from shoal.engine.guard.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR, attribute, messages

NETLINK_NETFILTER = 12
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFT_MSG_NEWRULE, NFT_MSG_DELRULE = 6, 8
NFPROTO_NETDEV = 5
NLM_F_APPEND = 0x800
NLA_F_NESTED = 0x8000
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_LIST_ELEM = 1
NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 2
NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN = 1, 2, 3, 4
NFTA_DYNSET_SET_NAME, NFTA_DYNSET_OP, NFTA_DYNSET_SREG_KEY, NFTA_DYNSET_SREG_DATA, NFTA_DYNSET_TIMEOUT = 1, 3, 4, 5, 6
NFT_DYNSET_OP_UPDATE, NFT_DYNSET_OP_DELETE = 1, 2
NFT_PAYLOAD_LL_HEADER, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = 0, 1, 2
NFTA_META_DREG, NFTA_META_KEY = 1, 2
NFT_META_MARK = 3
NFT_REG32_00 = 8
KEY = (
    (NFT_PAYLOAD_NETWORK_HEADER, 8, 16),
    (NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2),
    (NFT_PAYLOAD_NETWORK_HEADER, 24, 16),
    (NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2),
)
"""(header, offset, bytes): source, source port, destination, destination port; what `Family.flow` says in words.
TCP and UDP have their ports at the same place."""
ETHER_DADDR = (NFT_PAYLOAD_LL_HEADER, 0, 6)
BYTES_MAX = 65536
ANSWER_WITHIN_S = 1.0


class FlowRules:
    """``table``: the netdev table's name; ``flows``: the map's. ``by_mark``: what is remembered is the packet's mark, not the
    MAC it is addressed to."""

    def __init__(self, table: str, flows: str, *, by_mark: bool = False) -> None:
        self._table, self._flows, self._by_mark = table, flows, by_mark

    def set(self, chains: Mapping[str, int]) -> None:
        """Chain -> what its rule does with the packet's flow: remember for so many seconds whose it is; 0 = forget it. One
        transaction. Raises OSError.
        """
        batch = [(NFNL_MSG_BATCH_BEGIN, 0, _head(0, NFNL_SUBSYS_NFTABLES))]
        for chain, seconds in chains.items():
            place = attribute(NFTA_RULE_TABLE, _text(self._table)) + attribute(NFTA_RULE_CHAIN, _text(chain))
            rule = place + _nested(NFTA_RULE_EXPRESSIONS, self._expressions(seconds))
            batch.append((_nft(NFT_MSG_DELRULE), NLM_F_ACK, _head(NFPROTO_NETDEV) + place))
            batch.append((_nft(NFT_MSG_NEWRULE), NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND, _head(NFPROTO_NETDEV) + rule))
        batch.append((NFNL_MSG_BATCH_END, 0, _head(0, NFNL_SUBSYS_NFTABLES)))
        data = b"".join(
            struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, number, 0) + body
            for number, (kind, flags, body) in enumerate(batch)
        )
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
            kernel.settimeout(ANSWER_WITHIN_S)
            kernel.send(data)
            missing = 2 * len(chains)
            while missing > 0:
                for kind, body in messages(kernel.recv(BYTES_MAX)):
                    missing -= 1
                    if kind == NLMSG_ERROR and (code := -struct.unpack_from("=i", body)[0]):
                        raise OSError(code, f"the table of IPv6 flows: {os.strerror(code)}")

    def _expressions(self, seconds: int) -> bytes:
        found, register = b"", NFT_REG32_00
        for place in KEY:
            found += _payload(place, register)
            register += -(-place[2] // 4)
        found += _mark(register) if self._by_mark else _payload(ETHER_DADDR, register)
        values = attribute(NFTA_DYNSET_SET_NAME, _text(self._flows))
        values += _number(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE if seconds else NFT_DYNSET_OP_DELETE)
        values += _number(NFTA_DYNSET_SREG_KEY, NFT_REG32_00) + _number(NFTA_DYNSET_SREG_DATA, register)
        if seconds:
            values += attribute(NFTA_DYNSET_TIMEOUT, struct.pack("!Q", seconds * 1000))
        return found + _expression("dynset", values)


def _payload(place: tuple[int, int, int], register: int) -> bytes:
    base, offset, size = place
    values = _number(NFTA_PAYLOAD_DREG, register) + _number(NFTA_PAYLOAD_BASE, base)
    return _expression("payload", values + _number(NFTA_PAYLOAD_OFFSET, offset) + _number(NFTA_PAYLOAD_LEN, size))


def _mark(register: int) -> bytes:
    return _expression("meta", _number(NFTA_META_DREG, register) + _number(NFTA_META_KEY, NFT_META_MARK))


def _expression(name: str, values: bytes) -> bytes:
    return _nested(NFTA_LIST_ELEM, attribute(NFTA_EXPR_NAME, _text(name)) + _nested(NFTA_EXPR_DATA, values))


def _head(family: int, resource: int = 0) -> bytes:
    return struct.pack("=BB", family, 0) + struct.pack("!H", resource)


def _nft(message: int) -> int:
    return NFNL_SUBSYS_NFTABLES << 8 | message


def _nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, value)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


def _text(value: str) -> bytes:
    return value.encode() + b"\0"
