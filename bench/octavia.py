"""The API beside that of OpenStack Octavia (no-op drivers) in one run: load balancers with all their parts, at 8 clients.

One create is one call on either side: VIP, listener, pool and two members, durable in SQLite (write-ahead log, flushed at
each commit), over TLS. Octavia comes from PyPI into an environment of its own on first use, and runs as its API alone:
its no-op provider hands nothing on, its network driver makes addresses up, nobody is authenticated. Shoal signs in, checks
the caller's rights, allocates the VIP's address, notes who changed what, and with ``--controller`` plans, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import api
from bench.api import Client, Document

from shoal.controller.pki import Authority

PACKAGES = ("octavia==19.0.0", "gunicorn==27.0.1")
HOME = Path(sys.prefix) / "share" / "octavia"
THREADS = 16
"""Each waits for one connection. Requests are carried out one at a time: with two at once SQLite refuses ("database is locked"),
as Octavia reads and then writes in one transaction."""
READY_WITHIN_S = 60.0
PROJECT = "1" * 32
SUBNET = "11111111-1111-1111-1111-111111111111"
CONFIG = """
[DEFAULT]
transport_url = fake://
log_file = {folder}/octavia.log
[api_settings]
auth_strategy = noauth
enabled_provider_drivers = noop_driver: nothing is done
default_provider_driver = noop_driver
healthcheck_enabled = False
[database]
connection = sqlite:///{folder}/octavia.db
[controller_worker]
network_driver = network_noop_driver
compute_driver = compute_noop_driver
amphora_driver = amphora_noop_driver
[certificates]
cert_manager = noop_cert_manager
[quotas]
default_load_balancer_quota = -1
default_listener_quota = -1
default_member_quota = -1
default_pool_quota = -1
default_health_monitor_quota = -1
"""
DATABASE = """
import sys, sqlalchemy
from sqlalchemy.orm import Session
from octavia.common import constants as c
from octavia.db import base_models, models as m
engine = sqlalchemy.create_engine("sqlite:///" + sys.argv[1])
with engine.connect() as connection:
    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
base_models.BASE.metadata.create_all(engine)
with Session(engine) as session:
    for names, kind in (
        (c.SUPPORTED_PROVISIONING_STATUSES, m.ProvisioningStatus), (c.SUPPORTED_LB_ALGORITHMS, m.Algorithm),
        (c.SUPPORTED_PROTOCOLS, m.Protocol), (c.SUPPORTED_OPERATING_STATUSES, m.OperatingStatus),
        (c.SUPPORTED_LB_TOPOLOGIES, m.LBTopology), (c.SUPPORTED_CLIENT_AUTH_MODES, m.ClientAuthenticationMode),
    ):
        session.add_all(kind(name=name) for name in names)
    session.commit()
"""
APPLICATION = """
import threading
from oslo_config import cfg
from octavia.api import app
served, turn = app.setup_app(argv=["octavia-api", "--config-file", "{folder}/octavia.conf"]), threading.Lock()
def application(environ, start_response):
    with turn:
        return list(served(environ, start_response))
cfg.CONF.set_override("pool_timeout", None, group="database")  # SQLite has no pool
"""


def python() -> Path:
    """Of the environment that has Octavia, made if need be."""
    found, stamp = HOME / "bin" / "python", HOME / ".made"
    if not stamp.exists() or stamp.read_text() != " ".join(PACKAGES):
        print("fetching Octavia from PyPI", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
        command = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise SystemExit(made.stderr)
        stamp.write_text(" ".join(PACKAGES))
    return found


@contextlib.contextmanager
def octavia(folder: Path) -> Iterator[int]:
    """Its port."""
    certificate, key = Authority.open(folder / "pki").api_server_files(folder / "tls", ["localhost"], ["127.0.0.1"])
    (folder / "octavia.conf").write_text(CONFIG.format(folder=folder))
    (folder / "served.py").write_text(APPLICATION.format(folder=folder))
    subprocess.run([str(python()), "-W", "ignore", "-c", DATABASE, str(folder / "octavia.db")], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [str(HOME / "bin" / "gunicorn"), "--workers", "1", "--threads", str(THREADS), "--keep-alive", "60"]
    command += [
        "--certfile",
        str(certificate),
        "--keyfile",
        str(key),
        "--bind",
        f"127.0.0.1:{port}",
        "served:application",
    ]
    with (folder / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        )
    try:
        asyncio.run(_answers(port, process))
        yield port
    finally:
        process.terminate()
        process.wait(READY_WITHIN_S)


async def _answers(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            client = Client(port)
            await client.open()
            status, _, _ = await client.call("GET", "/v2/lbaas/providers")
            await client.close()
            if status == 200:
                return
        await asyncio.sleep(0.2)
    raise SystemExit("Octavia did not start: run it again with PYTHONWARNINGS=default and see")


def tree(number: int) -> str:
    members = [{"address": f"10.1.{number % 250}.{n}", "protocol_port": 80} for n in (1, 2)]
    pool = {"name": f"pool-{number}", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
    listener = {"name": f"listener-{number}", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    balancer = {"name": f"lb-{number}", "project_id": PROJECT, "vip_subnet_id": SUBNET, "listeners": [listener]}
    return json.dumps({"loadbalancer": balancer})


async def theirs(port: int, count: int) -> Document:
    clients = [Client(port) for _ in range(api.CLIENTS)]
    for client in clients:
        await client.open()
        client.use(f"X-Project-Id: {PROJECT}\r\n")
    for number, client in enumerate(clients):  # what is made when it is first asked for is not measured
        await client.call("POST", "/v2/lbaas/loadbalancers", tree(-1 - number))
    found = await api.creates(clients, 0, count, path="/v2/lbaas/loadbalancers", tree=tree)
    for client in clients:
        await client.close()
    return found


async def ours(port: int, count: int) -> Document:
    clients = await api.opened(port, api.CLIENTS)
    found = await api.creates(clients, 0, count)
    for client in clients:
        await client.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creates", type=int, default=1_000, help="of Shoal's; Octavia makes a tenth of that")
    parser.add_argument("--controller", action="store_true", help="Shoal plans for what is created, too")
    options = parser.parse_args()
    python()
    found: dict[str, Any] = {"bench": "octavia"}
    with tempfile.TemporaryDirectory() as folder, octavia(Path(folder)) as port:
        found["octavia"] = asyncio.run(theirs(port, options.creates // 10))
    with tempfile.TemporaryDirectory() as folder, api.server(Path(folder), controlled=options.controller) as (port, _):
        found["shoal"] = asyncio.run(ours(port, options.creates))
    found["ratio"] = round(found["shoal"]["per_second"] / found["octavia"]["per_second"], 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
