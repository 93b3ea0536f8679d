"""Alerts as SNMP traps, as a real snmptrapd understands them: version 2c, and 3 with authentication and privacy."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.alerts import senders, traps
from shoal.controller.alerts.watch import NOT_SENT, RAISED
from shoal.controller.outward import Outward
from tests.api_world import HERE, warnings_of
from tests.receivers import snmptrapd
from tests.unit import test_alerts
from tests.unit.test_alerts import ALERT, DOWN, Alerting, names, on, until

world = test_alerts.world
ENGINE = "80007ed90501020304"
KINDS = [("MD5", "DES"), ("SHA", "AES"), ("SHA_224", "AES"), ("SHA_256", "DES"), ("SHA_384", "AES"), ("SHA_512", "AES")]
WORDS = ("words that prove", "words that hide")
Document = dict[str, Any]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def server(port: int, **more: Any) -> Document:
    return {"ip_addr": {"addr": "127.0.0.1", "type": "V4"}, "port": port, **more}


def user(number: int) -> Document:
    (proof, hiding), (first, second) = KINDS[number], WORDS
    kinds = {"auth_type": f"SNMP_V3_AUTH_{proof}", "priv_type": f"SNMP_V3_PRIV_{hiding}"}
    return {"username": f"u{number}", "auth_passphrase": first, "priv_passphrase": second, **kinds}


async def test_an_event_becomes_a_trap_of_each_kind_and_again_later(
    world: Alerting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trapd").mkdir()
    users = [
        line
        for number, (proof, hiding) in enumerate(KINDS)
        for line in (
            f'createUser -e 0x{ENGINE} u{number} {proof.replace("_", "-")} "{WORDS[0]}" {hiding} "{WORDS[1]}"',
            f"authUser log u{number} priv",
        )
    ]
    engine = {"snmp_configuration": {"snmp_v3_config": {"engine_id": ENGINE}}}
    await world.call("PATCH", "/api/systemconfiguration", 200, json={"replace": engine})
    port = free_port()
    with snmptrapd(tmp_path / "trapd", port, "authCommunity log a-community", *users) as receiver:
        third = [server(port, version="SNMP_VER3", user=user(number)) for number in range(len(KINDS))]
        body = {"name": "traps", "trap_servers": [server(port, community="a-community"), *third]}
        reply = await world.client.post("/api/snmptrapprofile", json=body)
        assert reply.status_code == 201 and f"0x{ENGINE}" in " ".join(warnings_of(reply))
        assert not [text for text in warnings_of(reply) if "effect" in text]
        await on(world, DOWN, {"snmp_trap_profile_ref": "/api/snmptrapprofile?name=traps"})
        world.controller.events_log.add("SE_DOWN", 'Avi-se-1 is "down"', serviceengine="se-1")

        def came(count: int) -> list[str]:
            return [line for line in receiver.until(lambda lines: _traps(lines) == count) if line.startswith("TRAP2")]

        lines = await asyncio.to_thread(came, 1 + len(KINDS))
        assert not names(world, NOT_SENT) and names(world, RAISED)
        senders_of = sorted(line.partition("|")[0].partition(", ")[2] for line in lines)
        assert senders_of == sorted(
            ["SNMP v2c, community a-community", *(f"SNMP v3, user u{n}, context " for n in range(len(KINDS)))]
        )
        for line in lines:
            for number, text in enumerate(
                ("a", "HIGH", "SE_DOWN", 'Avi-se-1 is "down"', "admin", "serviceengine=se-1"), 1
            ):
                quoted = text.replace('"', '\\"')
                assert f'.{traps.OBJECTS}.{number} = STRING: "{quoted}"' in line, line
            assert f".{traps.TRAP_OID} = OID: .{traps.TRAP}" in line

        # An engine that is another one with each trap must have begun later each time, or it is refused.
        monkeypatch.setattr(traps, "STARTS_SINCE", traps.STARTS_SINCE - 1_000)
        world.controller.events_log.add("SE_DOWN", "down again", serviceengine="se-2")
        lines = await asyncio.to_thread(came, 2 * (1 + len(KINDS)))
        assert len(lines) == 2 * (1 + len(KINDS))


def _traps(lines: list[str]) -> int:
    return sum(line.startswith("TRAP2") for line in lines)


async def test_what_no_trap_can_be_sent_by_is_told(world: Alerting) -> None:
    for servers, path in (
        ([server(162, version="SNMP_VER3", user={"auth_passphrase": "long enough"})], "trap_servers[0].user.username"),
        (
            [server(162), server(162, version="SNMP_VER3", user=user(0) | {"priv_passphrase": "short"})],
            "priv_passphrase",
        ),
    ):
        reply = await world.post("/api/snmptrapprofile", {"name": "x", "trap_servers": servers}, 400)
        assert path in reply["error"]
    for engine in ("zz", "80", "80" * 33):
        system = {"snmp_configuration": {"snmp_v3_config": {"engine_id": engine}}}
        with pytest.raises(senders.NotSent, match=r"trap receiver 127\.0\.0\.1"):
            await asyncio.to_thread(senders.send_trap, ALERT, server(162), system, "", HERE)
    with pytest.raises(senders.NotSent, match="own machine"):
        await asyncio.to_thread(senders.send_trap, ALERT, server(162), {}, "", Outward())
    ids = {traps.engine_id({}, cluster) for cluster in ("cluster-1", "cluster-2")}
    assert len(ids) == 2, "a receiver tells two systems apart"


async def test_a_system_without_an_engine_id_still_sends_its_other_alerts(world: Alerting) -> None:
    engine = {"snmp_configuration": {"snmp_v3_config": {"engine_id": "no hexadecimal"}}}
    await world.call("PATCH", "/api/systemconfiguration", 200, json={"replace": engine})
    await world.post("/api/snmptrapprofile", {"name": "traps", "trap_servers": [server(162)]})
    await on(world, DOWN, {"snmp_trap_profile_ref": "/api/snmptrapprofile?name=traps"})
    for text in ("down", "down again"):
        before = len(names(world, NOT_SENT))
        world.controller.events_log.add("SE_DOWN", text)
        await until(lambda before=before: len(names(world, NOT_SENT)) > before)
