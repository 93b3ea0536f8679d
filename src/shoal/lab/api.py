"""A small client of the API for demo, bench and tests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import httpx

from shoal.errors import NotReady, ShoalError

TIMEOUT_S = 20.0
POLL_S = 0.01
Document = dict[str, Any]


class Refusal(ShoalError):
    """The API said no; the message is its."""


def own_ca_only() -> ssl.SSLContext:
    """The lab talks to the Shoal it has just started on this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Api:
    """``async with Api(url, password) as api``."""

    def __init__(self, url: str, password: str, user: str = "admin") -> None:
        self._client = httpx.AsyncClient(base_url=url, verify=own_ca_only(), timeout=TIMEOUT_S, trust_env=False)
        self._credentials = {"username": user, "password": password}
        self._headers: dict[str, str] = {}

    async def __aenter__(self) -> Api:
        answer = await self._client.post("/login", data=self._credentials)
        if answer.status_code != 200:
            raise Refusal(f"login: {answer.text}")
        self._headers = {"X-CSRFToken": self._client.cookies["csrftoken"], "X-Avi-Version": "22.1.3"}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def call(self, method: str, path: str, body: Document | None = None) -> Any:
        """Raises Refusal for anything but 2xx, and when nobody answers."""
        try:
            answer = await self._client.request(method, f"/api/{path}", json=body, headers=self._headers)
        except httpx.HTTPError as error:
            raise Refusal(f"{method} {path}: no answer: {error or type(error).__name__}") from error
        if not 200 <= answer.status_code < 300:
            raise Refusal(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    async def get(self, path: str) -> Any:
        return await self.call("GET", path)

    async def post(self, path: str, body: Document) -> Any:
        return await self.call("POST", path, body)

    async def service(self, name: str, servers: list[tuple[str, int]], **more: Any) -> Document:
        """Pool, VsVip and virtual service on port 80; returns {"uuid", "address", "address6", ...}, "" for none.

        ``vip``: the VsVip's only one (default: an allocated IPv4 address)."""
        pool = {
            "name": f"{name}-pool",
            "lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN",
            "servers": [{"ip": ip_address(a), "port": p} for a, p in servers],
        }
        pool |= more.pop("pool", {})
        await self.post("pool", pool)
        vsvip = await self.post("vsvip", {"name": f"{name}-vip", "vip": [more.pop("vip", {"auto_allocate_ip": True})]})
        made: Document = await self.post(
            "virtualservice",
            {
                "name": name,
                "vsvip_ref": f"/api/vsvip?name={name}-vip",
                "pool_ref": f"/api/pool?name={name}-pool",
                "services": [{"port": 80}],
                **more,
            },
        )
        for key, field in (("address", "ip_address"), ("address6", "ip6_address")):
            made[key] = vsvip["vip"][0].get(field, {}).get("addr", "")
        return made

    async def runtime(self, service: str) -> Document:
        found: Document = await self.get(f"virtualservice/{service}/runtime")
        return found

    async def placement(self, service: str) -> Document:
        """Of its first VIP; an empty document before the first plan."""
        vips: list[Document] = (await self.get(f"virtualservice/{service}/placement"))["vips"]
        return vips[0] if vips else {"placements": [], "armed": False, "answers": "", "succession": [], "decisions": []}

    async def until(self, what: str, check: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Poll ``check`` (an async function) until it returns something true. Raises NotReady, naming ``what``."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            found = await check()
            if found:
                return found
            if asyncio.get_running_loop().time() > deadline:
                raise NotReady(f"Not so after {seconds:.0f} s: {what}.")
            await asyncio.sleep(POLL_S)

    async def placed(self, service: str, engines: int) -> Document:
        """Wait until the service serves on so many engines, its takeover is armed, and somebody answers for it."""

        async def check() -> Document | None:
            found = await self.placement(service)
            ready = [p for p in found["placements"] if p["state"] == "ready"]
            return (
                found
                if len(ready) == engines == len(found["placements"]) and found["armed"] and found["answers"]
                else None
            )

        found: Document = await self.until(f"the service is on {engines} engines, armed and answered for", check)
        return found


def ip_address(text: str) -> Document:
    return {"addr": text, "type": "V6" if ":" in text else "V4"}


def engine_name(reference: str) -> str:
    return reference.rpartition("#")[2]
