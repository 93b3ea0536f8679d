"""Every text of the desired state attacks ``haproxy.cfg``, HAProxy is the judge. `scripts/fuzz` does it for longer."""

from __future__ import annotations

import asyncio
import base64
import datetime
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shoal.controller.desired import service_part
from shoal.controller.pki import self_signed_default
from shoal.engine.haproxy import certificates, lists, render, rules, server_modes, servers, tls
from shoal.engine.haproxy.escape import Unrenderable, backend_name, word
from shoal.engine.haproxy.render import Facts, Fragment
from shoal.objects import load, views
from shoal.wire.desired import Group, Listener, Member, Pool, Server, Service
from shoal.wire.policy import SELECTION, Rule, Switch
from tests.api_world import ControlledWorld, controlled_world

from .hostile import SEED, STRINGS, Maker, text

Document = dict[str, Any]
LIST = "0" * 24
"""Of networks: there is one."""
USUAL: dict[str, Any] = {
    "address": ("10.0.0.1", "fd00::1"),
    "addresses": ("127.0.0.1", "::1"),
    "algorithm": (*render.BALANCE, servers.CONSISTENT_HASH),
    "hash": tuple(
        f"{servers.CONSISTENT_HASH}_{key}"
        for key in ("SOURCE_IP_ADDRESS", "SOURCE_IP_ADDRESS_AND_PORT", "URI", "CUSTOM_HEADER")
    ),
    "version_min": ("", "TLSv1.2"),
    "version_max": ("", "TLSv1.3"),
    "ciphers": ("", "ECDHE+AESGCM"),
    "curves": ("", "X25519:P-256"),
    "suites": ("", "TLS_AES_128_GCM_SHA256"),
    "trust": ("", "one"),
    "certificate": ("", "one"),
    "tells": ("", "", "host", "name"),
    "host": ("", "www.example.org"),
    "mode": ("http", "tcp"),
    "protocol": ("tcp", "tcp", "udp"),
    "kind": ("TCP", "HTTP", "HTTPS", "PING", "text", "host", "path"),
    "of": (
        "client",
        "source",
        "hello",
        "port",
        "tls",
        "method",
        "version",
        "path",
        "query",
        "host",
        "header",
        "cookie",
        "status",
        "location",
    ),
    "how": ("equals", "begins", "ends", "contains", "regex", "exists"),
    "values": (
        "0123456789abcdefABCDEF0123456789",
        "10.0.0.0/8",
        "fd00::1",
        "80",
        "GET",
        "1.1",
        "a",
        "/x.*",
        "404",
        "500:599",
    ),
    "lists": (LIST,),
    "phase": ("security", "request", "response", "selection"),
    "action": ("add", "replace", "remove"),
    "variable": ("", *rules.VARIABLES, *rules.PEM_VARIABLES),
    "status": (200, 301, 302, 403, 404, 503),
    "content_type": ("text/plain", ""),
    "forwarded_for": ("X-Forwarded-For", "X-Client", ""),
    "forwarded_for_update": ("replace", "append", "add"),
    "compress": ("text/html", "text/css"),
    "header": ("", "", "X-Real"),
    "cookie": ("", "", "id"),
    "first": (0, 1, 3),
    "last": (-1, 0, 2),
    "count": (1, 100),
    "period_s": (1, 60),
    "request": ("GET / HTTP/1.0", "HEAD /x HTTP/1.1\\r\\nHost: a\\r\\nX-Y: z", "ping"),
    "certificates": ("one", "two"),
    "port": (80, 8080, 65535),
    "interval_s": (1, 10),
    "timeout_s": (1, 4),
    "rise": (1, 2),
    "fall": (1, 2),
    "client_idle_s": (1, 60),
    "connections_max": (0, 10),
}
HOSTILE_SHARE = 0.1
SERVICES_OF_A_FILE = 120
FIRST_WORDS = frozenset(
    [
        *("acl", "balance", "bind", "capture", "compression", "default_backend", "hash-type", "http-after-response"),
        *("http-check", "http-reuse", "stick-table", "description", "http-send-name-header"),
        *(f"{side}tcpka-{what}" for side in ("cli", "srv") for what in ("idle", "intvl", "cnt")),
        *("http-request", "http-response", "log", "log-format", "maxconn", "mode", "option", "server", "tcp-check"),
        *("tcp-request", "tcp-response", "timeout", "use-server", "use_backend", "retry-on"),
    ]
)
"""All that a service's sections begin lines with."""
GLOBAL_WORDS = frozenset(
    [
        "bind",
        "ca-base",
        "chroot",
        "crt-base",
        "default-path",
        "group",
        "hard-stop-after",
        "http-request",
        "load-server-state-from-file",
        "lua-load-per-thread",
        "max-spread-checks",
        "maxconn",
        "mode",
        "nbthread",
        "option",
        "retries",
        "server-state-file",
        "ssl-default-bind-options",
        "stats",
        "timeout",
        "tune.bufsize",
        "tune.h2.initial-window-size",
        "tune.h2.max-concurrent-streams",
        "tune.http.maxhdr",
        "tune.lua.maxmem",
        "tune.ssl.cachesize",
        "tune.ssl.capture-buffer-size",
        "tune.ssl.default-dh-param",
        "tune.ssl.lifetime",
        "user",
    ]
)


def facts_of(folder: Path) -> Facts:
    facts = Facts(directory=str(folder), sockets=str(folder), descriptors_max=2**19, user="root", memory_mb=2**16)
    (folder / "servers.state").write_text("1\n")
    (folder / "draining.lst").write_text("")
    lists.folder_of(facts).mkdir()
    (lists.folder_of(facts) / LIST).write_text("192.0.2.0/24\n")
    return facts


def give(facts: Facts, service: Service, pem: bytes, key: bytes) -> None:
    """The files that a service names."""
    revoked = empty_list(pem, key)
    texts = {"pem": pem + key, "ca": pem, "crl": revoked}
    texts["tickets"] = b"\n".join(base64.b64encode(bytes(80)) for _ in range(3))
    kinds = {"pem": "cert", "ca": "ca-file", "crl": "crl-file", "tickets": "tls-key"}
    names = {name: name.rpartition(".")[2] for name in tls.uses(service)}
    files = {name: certificates.File(kinds[end], texts[end].decode()) for name, end in names.items()}
    certificates.write(facts, files)


def empty_list(pem: bytes, key: bytes) -> bytes:
    """A list of nothing revoked, signed by a certificate's key."""
    issuer, signer = x509.load_pem_x509_certificate(pem), serialization.load_pem_private_key(key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(now).next_update(now + datetime.timedelta(days=1))
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def judged(folder: Path, facts: Facts, fragments: dict[str, Fragment], services: list[Service], seed: object) -> None:
    """The file has the sections and kinds of lines meant and no others, and HAProxy takes it."""
    whole = render.config(facts, fragments)
    lines = [line for line in whole.split("\n") if line]
    counters = re.compile(f"backend limit_({'|'.join(re.escape(word(id)) for id in fragments)})_[0-9]+")
    sections = [line for line in lines if not line.startswith(" ") and not counters.fullmatch(line)]
    shown = [server_modes.expanded(service) for service in services if service.id in fragments]
    backends = {f"backend {backend_name(s.id, p.id)}" for s in shown for p in s.pools}
    frontends = {f"frontend {render.frontend_name(id)}" for id in fragments}
    assert {"global", "defaults", "frontend shoal_alive"} | backends <= set(sections), seed
    assert set(sections) <= {"global", "defaults", "frontend shoal_alive"} | backends | frontends, seed
    assert len(set(sections)) == len(sections), seed
    words = {line.split()[0] for line in lines if line.startswith(" ")}
    assert words <= FIRST_WORDS | GLOBAL_WORDS, f"{seed}: {words - FIRST_WORDS - GLOBAL_WORDS}"
    file = folder / "haproxy.cfg"
    file.write_text(whole)
    checked = subprocess.run(["haproxy", "-c", "-f", str(file)], capture_output=True, text=True, errors="replace")
    assert checked.returncode == 0, f"{seed}: {checked.stderr[:3000]}"


def connected(service: Service, maker: Maker, rng: random.Random) -> Service:
    """Its groups and rules name pools that are there, whatever those are called."""
    if service.pool is None:
        return msgspec.structs.replace(service, groups=(), rules=())
    more = (*(msgspec.structs.replace(service.pool, id=text(rng)) for _ in range(2)), maker.make(Pool))
    service = msgspec.structs.replace(service, others=more[: rng.choice((0, 1, 2, 2, 3))])
    pools = [pool.id for pool in service.pools]
    groups = tuple(maker.make(Group, members=members(maker, rng, pools)) for _ in range(rng.choice((0, 0, 1, 2))))
    ids = [group.id for group in groups]

    def leads(rule: Rule) -> Rule:
        actions = tuple(
            msgspec.structs.replace(
                one, **({"group": rng.choice(ids), "pool": ""} if ids else {"pool": rng.choice(pools)})
            )
            if isinstance(one, Switch)
            else one
            for one in rule.actions
        )
        return msgspec.structs.replace(rule, actions=actions)

    chosen = Rule(name="", phase=SELECTION, actions=(Switch(pool=rng.choice(pools), server=text(rng)),))
    given = service.rules if rng.random() < 0.5 else ()
    rules = (*map(leads, given), *([chosen] if rng.random() < 0.3 else []))
    default = {"pool": None, "others": service.pools, "group": ids[0]} if ids and rng.random() < 0.5 else {}
    return msgspec.structs.replace(service, groups=groups, rules=rules, **default)


def plain(id: str, listeners: tuple[Listener, ...], rng: random.Random) -> Service:
    """Hostile names only."""
    ports = tuple(Listener(port=one.port, port_end=one.port_end) for one in listeners)
    servers = tuple(Server(name=text(rng), address=f"10.0.0.{n}", port=80) for n in (1, 2))
    pool = Pool(id=text(rng), name=text(rng), servers=servers)
    mode = rng.choice(("http", "tcp"))
    return Service(
        id=id, name="", vip="v", addresses=("127.0.0.1",), enabled=True, mode=mode, listeners=ports, pool=pool
    )


def members(maker: Maker, rng: random.Random, pools: list[str]) -> tuple[Member, ...]:
    return tuple(maker.make(Member, pool=pool) for pool in rng.sample(pools, rng.randint(1, len(pools))))


def test_no_text_of_the_desired_state_gets_out_of_its_place(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    key, pem = self_signed_default("x")
    rng = random.Random(SEED)
    maker = Maker(rng, USUAL, HOSTILE_SHARE)
    served = files = chosen = 0
    while maker.count < STRINGS:
        files += 1
        fragments: dict[str, Fragment] = {}
        services: list[Service] = []
        for number in range(SERVICES_OF_A_FILE):
            port = 1000 + number
            listeners = tuple(
                msgspec.structs.replace(maker.make(Listener), port=port + n * 1000, port_end=port + n * 1000)
                for n in range(rng.choice((1, 1, 2)))
            )
            service = maker.make(
                Service, listeners=listeners, id=f"{number} {text(rng)}", enabled=True, others=(), group="", parent=""
            )
            if number % 4 == 0:  # all else is as it should be
                service = plain(service.id, listeners, rng)
            service = connected(service, maker, rng)
            services.append(service)
            try:
                fragments[service.id] = render.service_fragment(service, facts)
            except Unrenderable:
                continue
            give(facts, service, pem, key)
        served += len(fragments)
        judged(tmp_path, facts, fragments, services, f"seed {SEED}, file {files}")
        chosen += sum("use_backend" in fragment.text for fragment in fragments.values())
    assert chosen > files
    assert served > files * SERVICES_OF_A_FILE / 20, "too few get as far as the file: the attack tells nothing"


# --- from the API on ---

TYPES = ("healthmonitor", "pool", "applicationprofile", "networkprofile")
TRIES = max(60, STRINGS // 40)
ACTING_TYPES = {
    "healthmonitor": ("HEALTH_MONITOR_TCP", "HEALTH_MONITOR_HTTP", "HEALTH_MONITOR_HTTPS"),
    "applicationprofile": ("APPLICATION_PROFILE_TYPE_HTTP", "APPLICATION_PROFILE_TYPE_L4"),
}


class Configurer:
    """Sends hostile configurations to the API until some are taken."""

    def __init__(self, world: ControlledWorld, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self.taken = 0

    async def configure(self) -> None:
        for number in range(TRIES):
            for type in self._rng.sample(TYPES, 2):
                await self._send(type, self._hostile(type))
            made = await self._send("pool", self._pool(number))
            if made:
                await self._service(number, made)

    async def _send(self, type: str, body: Document) -> Document:
        try:
            reply = await self._world.client.post(f"/api/{type}", content=msgspec.json.encode(body))
        except UnicodeEncodeError:  # half a character can't be sent
            return {}
        assert reply.status_code < 500, f"{body}: {reply.text}"
        self.taken += reply.status_code == 201
        return reply.json() if reply.status_code == 201 else {}

    def _hostile(self, type: str) -> Document:
        body: Document = {"name": f"{text(self._rng)[:50]} {self._rng.random()}"}
        if type in ACTING_TYPES:
            body["type"] = self._rng.choice(ACTING_TYPES[type])
        if type == "healthmonitor":
            head = self._rng.choice(("GET /", "HEAD /a HTTP/1.1", "POST /x HTTP/1.0\\r\\nX-Y: ", "")) + text(self._rng)
            codes = ["HTTP_2XX"]
            body |= {
                "http_monitor": {"http_request": head, "http_response": text(self._rng), "http_response_code": codes},
                "https_monitor": {"http_request": head, "http_response_code": codes},
                "tcp_monitor": {"tcp_request": text(self._rng), "tcp_response": text(self._rng)},
                "send_interval": self._rng.choice((1, 10, 3600)),
                "receive_timeout": self._rng.choice((1, 4)),
                "monitor_port": self._rng.choice((0, 1, 80, 65535)),
            }
        if type == "networkprofile":
            body["profile"] = {"type": "PROTOCOL_TYPE_TCP_PROXY"}
        if type == "pool":
            body |= self._pool(0)
        return body

    def _pool(self, number: int) -> Document:
        kind = load().type("pool")
        pick = self._rng.choice
        servers = [
            {"ip": {"addr": address, "type": "V4"}, "port": port, "hostname": text(self._rng), "ratio": pick((1, 20))}
            for address, port in self._rng.sample(
                [("10.0.0.1", 80), ("10.0.0.2", 65535), ("localhost", 1), (text(self._rng), 80)], pick((1, 2))
            )
        ]
        monitors = [d["uuid"] for d in self._world.view.all("healthmonitor")]
        return {
            "name": f"{text(self._rng)[:60]} {number} {self._rng.random()}",
            "servers": servers,
            "lb_algorithm": pick(kind.fields["lb_algorithm"].enum),
            "lb_algorithm_hash": pick(kind.fields["lb_algorithm_hash"].enum),
            "lb_algorithm_consistent_hash_hdr": text(self._rng),
            "health_monitor_refs": [
                f"/api/healthmonitor/{uuid}" for uuid in self._rng.sample(monitors, pick((0, 1, 2)))
            ],
        }

    async def _service(self, number: int, pool: Document) -> None:
        address = {"addr": f"10.9.{number // 250}.{number % 250 + 1}", "type": "V4"}
        name = f"{text(self._rng)[:60]} {number}"
        vip = await self._send("vsvip", {"name": f"vip {number}", "vip": [{"vip_id": "0", "ip_address": address}]})
        profiles = [d["uuid"] for d in self._world.view.all("applicationprofile")]
        body = {
            "name": name if name.isprintable() else f"plain {number}",
            "vsvip_ref": vip["url"],
            "pool_ref": pool["url"],
            "application_profile_ref": f"/api/applicationprofile/{self._rng.choice(profiles)}",
            "services": [{"port": 80}, {"port": 443, "enable_ssl": self._rng.random() < 0.5}],
        }
        await self._send("virtualservice", body)


@pytest.mark.parametrize("seed", [SEED])
def test_what_the_api_accepts_haproxy_accepts(tmp_path: Path, seed: int) -> None:
    asyncio.run(accepted(tmp_path, seed))


async def accepted(folder: Path, seed: int) -> None:
    facts = facts_of(folder)
    key, pem = self_signed_default("x")
    async with controlled_world(folder) as world:
        body = {"name": "System-Default-Cert", "key": key.decode(), "certificate": {"certificate": pem.decode()}}
        await world.post("/api/sslkeyandcertificate", body)
        configurer = Configurer(world, random.Random(seed))
        await configurer.configure()
        fragments: dict[str, Fragment] = {}
        services: list[Service] = []
        intents = world.controller.reconciler.vips(world.view)
        vips = {
            service.uuid: intent
            for group in intents.values()
            for intent in group.values()
            for service in intent.services
        }
        for document in world.view.all("virtualservice"):
            typed = views.view(document, views.VirtualService)
            service = service_part(world.view, typed, vips[typed.uuid])
            services.append(service)
            fragments[service.id] = render.service_fragment(service, facts)  # raises: accepted, and not renderable
            give(facts, service, pem, key)
        assert len(fragments) > TRIES / 10 and configurer.taken > TRIES
        judged(folder, facts, fragments, services, f"seed {seed}")
