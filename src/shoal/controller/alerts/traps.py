"""Alerts as SNMP traps: version 2c (RFC 3416) and 3 with authentication and privacy (RFC 3414, 3826, 7860).

A trap of version 3 is by an *engine*, whose id receivers must be told beforehand, and whose count of starts must not go
back, nor its time stand still for long (RFC 3414, 3.2): one that begins with each trap, counted by the clock, has both.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any

from shoal.controller.outward import Outward

from .messages import Alert, line_of

Settings = Mapping[str, Any]
PORT = 162
BASE = "1.3.6.1.4.1.32473.9444"
"""Below the number that is for examples (RFC 5612): Shoal has none of its own."""
TRAP, OBJECTS = f"{BASE}.0.1", f"{BASE}.1"
UPTIME, TRAP_OID = "1.3.6.1.2.1.1.3.0", "1.3.6.1.6.3.1.1.4.1.0"
OWN_PREFIX = bytes.fromhex("80007ed905")
"""Of an engine id: that number, and that octets follow (RFC 3411, SnmpEngineID)."""
ENGINE_OCTETS = (5, 32)
STARTS_SINCE = 1_700_000_000
"""Starts are counted from here, in seconds: 31 bits last until 2091."""
OCTETS_MAX = 400
"""Of a value, so that a trap fits a datagram that nobody has to take apart."""
_started = time.monotonic()


def engine_id(system: Settings, cluster: str) -> bytes:
    """Of ``snmp_v3_config`` in the SystemConfiguration where that gives one (hexadecimal), else derived of the cluster's
    uuid. Raises ValueError for what is no engine id."""
    config = (system.get("snmp_configuration") or {}).get("snmp_v3_config") or {}
    if given := str(config.get("engine_id") or ""):
        found = bytes.fromhex(given.removeprefix("0x"))
        if not ENGINE_OCTETS[0] <= len(found) <= ENGINE_OCTETS[1]:
            raise ValueError(f"must have {ENGINE_OCTETS[0]}..{ENGINE_OCTETS[1]} octets")
        return found
    return OWN_PREFIX + hashlib.sha256(cluster.encode()).digest()[:8]


def values(alert: Alert) -> dict[str, bytes]:
    """What a trap carries: name, level, event, text, tenant, objects."""
    pairs = ", ".join(f"{role}={uuid}" for role, uuid in alert.objects.items())
    texts = (alert.name, alert.level.removeprefix("ALERT_"), alert.event_id, alert.detail, alert.tenant, pairs)
    return {f"{OBJECTS}.{n}": line_of(text).encode()[:OCTETS_MAX] for n, text in enumerate(texts, 1)}


def send(alert: Alert, server: Settings, engine: bytes, outward: Outward) -> None:
    """``server``: SnmpTrapServer, secrets opened. Blocks; nobody answers a trap. Raises OSError."""
    host, port = str(server["ip_addr"]["addr"]), int(server.get("port", PORT))
    (address, *_) = outward.addresses(host, port)
    asyncio.run(_sent(alert, server, engine, address, port))


async def _sent(alert: Alert, server: Settings, engine: bytes, address: str, port: int) -> None:
    from pysnmp.hlapi.v3arch import asyncio as snmp  # seldom needed, and long to load
    from pysnmp.proto.rfc1902 import ObjectIdentifier, OctetString, TimeTicks

    speaking = snmp.SnmpEngine()
    try:
        builder = speaking.get_mib_builder()
        (own,) = builder.import_symbols("__SNMP-FRAMEWORK-MIB", "snmpEngineID")
        (starts,) = builder.import_symbols("__SNMP-FRAMEWORK-MIB", "snmpEngineBoots")
        # Not given to SnmpEngine(), which would count starts in a file below /tmp that anybody may have put there.
        own.syntax = speaking.snmpEngineID = own.syntax.clone(OctetString(engine))
        starts.syntax = starts.syntax.clone(int(time.time()) - STARTS_SINCE)
        transport = snmp.Udp6TransportTarget if ":" in address else snmp.UdpTransportTarget
        uptime = TimeTicks(int((time.monotonic() - _started) * 100) % 2**32)
        carried = [(oid, OctetString(value)) for oid, value in values(alert).items()]
        error, *_ = await snmp.send_notification(
            speaking,
            _credentials(snmp, server),
            await transport.create((address, port)),
            snmp.ContextData(),
            "trap",
            (UPTIME, uptime),
            (TRAP_OID, ObjectIdentifier(TRAP)),
            *carried,
            lookupMib=False,
        )
    finally:
        speaking.close_dispatcher()
    if error:
        raise OSError(str(error))


def _credentials(snmp: Any, server: Settings) -> Any:
    if server.get("version", "SNMP_VER2") == "SNMP_VER2":
        return snmp.CommunityData(str(server.get("community") or "public"))
    user = server.get("user") or {}
    authentication = {
        "SNMP_V3_AUTH_MD5": snmp.USM_AUTH_HMAC96_MD5,
        "SNMP_V3_AUTH_SHA": snmp.USM_AUTH_HMAC96_SHA,
        "SNMP_V3_AUTH_SHA_224": snmp.USM_AUTH_HMAC128_SHA224,
        "SNMP_V3_AUTH_SHA_256": snmp.USM_AUTH_HMAC192_SHA256,
        "SNMP_V3_AUTH_SHA_384": snmp.USM_AUTH_HMAC256_SHA384,
        "SNMP_V3_AUTH_SHA_512": snmp.USM_AUTH_HMAC384_SHA512,
    }
    privacy = {"SNMP_V3_PRIV_DES": snmp.USM_PRIV_CBC56_DES, "SNMP_V3_PRIV_AES": snmp.USM_PRIV_CFB128_AES}
    return snmp.UsmUserData(
        str(user["username"]),
        str(user["auth_passphrase"]),
        str(user["priv_passphrase"]),
        authProtocol=authentication[user.get("auth_type", "SNMP_V3_AUTH_MD5")],
        privProtocol=privacy[user.get("priv_type", "SNMP_V3_PRIV_DES")],
    )
