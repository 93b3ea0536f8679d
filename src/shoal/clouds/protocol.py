"""Where engines come from. `namespaces` (this machine) is the embedded default; each cloud has a no-op twin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from shoal.errors import ShoalError
from shoal.wire.recorded import Recording


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that can carry engines. In the namespaces cloud hosts are labels, so that the loss of one can be tried."""

    name: str
    engines_max: int = 1000


def quietest(hosts: Iterable[str], taken: Iterable[str]) -> str:
    """The host with the fewest engines, the first of them. ``taken``: the host of each engine there is."""
    counts = dict.fromkeys(hosts, 0)
    for host in taken:
        if host in counts:
            counts[host] += 1
    return min(counts, key=lambda host: counts[host])


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine proves itself with: PEM of its key, its certificate (URI-SAN ``shoal://engine/<id>``) and the CA.
    ``joins``: it is a join token (``shoal://join/<id>``), with which the engine gets a certificate for a key of its own."""

    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes
    joins: bool = False


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to create. ``rank`` is unique for ever in this Shoal and orders claims; ``host`` "" lets the cloud choose."""

    id: str
    name: str
    rank: int
    group: str
    host: str = ""
    vcpus: int = 1
    memory_mb: int = 2048
    identity: Identity


class EngineHandle(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as the cloud sees it. ``running`` is False when its agent process is gone."""

    id: str
    name: str
    host: str
    address: str
    prefix_length: int
    mac: str
    running: bool
    vlans: tuple[int, ...] = ()
    """What it was given by `Cloud.plug`."""


class CloudError(ShoalError):
    """The infrastructure said no; the message says what was tried."""


class Cloud(Protocol):
    async def start(self) -> None:
        """Bring up the fabric; adopt what a former controller left; remove orphans (no record, half made). Engines that
        don't run are left to `restart`."""
        ...

    async def create(self, spec: EngineSpec) -> EngineHandle:
        """Make and start an engine. All or nothing: on `CloudError` nothing is left behind. (Where only the answer was lost
        something is: what `engines` lists all the same is deleted.)"""
        ...

    async def restart(self, engine_id: str) -> EngineHandle:
        """Reboot: end every process of the engine, then start its agent again on the same identity and address."""
        ...

    async def renew(self, engine_id: str, identity: Identity) -> None:
        """Give an engine another identity, to be shown when it connects next. Nothing else of it changes."""
        ...

    async def plug(self, engine_id: str, vlans: Sequence[int]) -> None:
        """Have the engine be in exactly these VLANs, beside its own network: by an interface each, of the name ``eth0.100``,
        with the MAC of the first and no address. To repeat it does no harm."""
        ...

    async def delete(self, engine_id: str) -> None:
        """Remove the engine and all it had. No error if it is gone already."""
        ...

    async def engines(self) -> list[EngineHandle]:
        """Every engine this cloud made and has not deleted, running or not. One that is left out for some seconds, and not heard
        of, is deleted: raise `CloudError` rather than give a part of them."""
        ...

    async def hosts(self) -> list[Host]: ...

    async def recordings(self, engine_id: str, seconds: float) -> tuple[Recording, ...]:
        """What the engine's flight recorders hold of the last ``seconds``, read without the engine's help; empty where
        this cloud can't. Their clocks are this machine's."""
        ...

    async def stop(self) -> None:
        """Let go; engines keep serving."""
        ...

    async def destroy(self) -> None:
        """Remove every engine, namespace, process, link and route this cloud made."""
        ...
