"""What an operator does to a running system: scale out and in, migrate, switch over, retry, resync, reboot, delete.

Bodies are those of the API (reference: api.md 7). An operation on a VIP becomes a `Request` that the next plan
accepts or refuses; the answer comes after that plan, the progress is in the runtime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from shoal.clouds.protocol import Cloud, Identity
from shoal.errors import Invalid, NotFound, NotReady, Problem, Refused
from shoal.objects.views import uuid_of
from shoal.placement import legacy, pair, presets
from shoal.placement.model import EngineState, Request, RequestKind, RequestResult, Role
from shoal.wire.tls import fingerprint_of_pem

from .clock import Clock, FreshId, fresh_uuid
from .desired import engines_of
from .events import EventLog
from .fleet import Fleet
from .intent import Guard
from .ledger import Changes, Ledger
from .preflight.asking import Preflights
from .proposal import Proposal
from .reconciler import Reconciler
from .records import EngineRecord, RequestRecord, VipRecord
from .snapshot import vip_id
from .upgrade import Upgrades
from .view import View

Body = Mapping[str, Any]
ANSWER_WITHIN_S = 5.0
DRILL_TEXT_MAX = 500
PROPOSED = "proposed"
"""The id of a request that is not made."""
PLANNED = (*(kind.value for kind in RequestKind), "redistribute", "forcedelete")
"""Operations that can be planned without being done."""

MEMBERS = {
    RequestKind.SCALE_OUT: {"vip_id", "uuid", "to_se_ref", "to_new_se", "to_host_ref", "new_vcpus", "admin_up"},
    RequestKind.SCALE_IN: {"vip_id", "uuid", "from_se_ref", "scalein_primary", "admin_down"},
    RequestKind.MIGRATE: {"vip_id", "uuid", "from_se_ref", "to_se_ref", "to_new_se", "to_host_ref", "new_vcpus"},
    RequestKind.SWITCHOVER: {"vip_id", "uuid", "se_uuid"},
    RequestKind.RETRY: {"vip_id", "uuid", "all_east_west"},
}


AUTOSCALE = "of a pool is for servers that a cloud makes, and no cloud here does."
NOT_YET = {
    ("virtualservice", "rotatekeys"): (
        "The keys of TLS session tickets are other ones each day by themselves.",
        "",
    ),
    ("pool", "scaleout"): (f"Scale-out {AUTOSCALE}", "PATCH the pool with add servers."),
    ("pool", "scalein"): (f"Scale-in {AUTOSCALE}", "PATCH the pool with delete servers."),
}
"""Operations that clients know and that can't be done here: (why, what to do instead)."""


PRIMARY = "enable_primary_pool/clear"
"""As the original's clients ask for it."""
KINDS: tuple[tuple[str, str], ...] = (
    *(("virtualservice", kind.value) for kind in RequestKind),
    ("virtualservice", "resync"),
    ("serviceengine", "drill"),
    ("serviceengine", "switchover"),
    ("serviceengine", "reboot"),
    ("serviceengine", "forcedelete"),
    ("serviceengine", "revokecertificate"),
    ("serviceenginegroup", "redistribute"),
    ("serviceenginegroup", "endstorm"),
    ("serviceenginegroup", "upgrade"),
    ("serviceenginegroup", "preflight"),
    ("sslkeyandcertificate", "renew"),
    ("poolgroup", PRIMARY),
    *NOT_YET,
)
"""Every (object type, operation)."""


def _no_renewals(uuid: str) -> dict[str, Any]:
    raise Refused("Certificates are not renewed by this controller.")


async def _no_primaries(group: str, pool: str) -> None:
    raise Refused("Pools are not made primary by this controller.")


class CallerLike(Protocol):
    @property
    def user(self) -> str: ...


class Operations:
    def __init__(
        self,
        view: View,
        ledger: Ledger,
        reconciler: Reconciler,
        fleet: Fleet,
        cloud: Cloud,
        events: EventLog,
        clock: Clock,
        fresh_id: FreshId = fresh_uuid,
        *,
        identity: Callable[[str, str], Identity],
        upgrades: Upgrades,
        gateway: str = "",
    ) -> None:
        self._preflights = Preflights(view, ledger, fleet, gateway)
        self._identity = identity
        self._upgrades = upgrades
        self._view = view
        self._ledger = ledger
        self._reconciler = reconciler
        self._fleet = fleet
        self._cloud = cloud
        self._events = events
        self._clock = clock
        self._fresh_id = fresh_id
        self.make_primary: Callable[[str, str], Awaitable[None]] = _no_primaries
        """Has a pool of a group go first; both by uuid."""
        self.renew: Callable[[str], dict[str, Any]] = _no_renewals
        """Asks for a certificate anew, by its uuid."""

    async def operate(
        self, type: str, uuid: str, operation: str, body: Body, caller: CallerLike, guard: Guard = lambda: None
    ) -> dict[str, Any]:
        """Run one operation of `KINDS`. Raises NotFound, Invalid, Refused (with the reason and what would help), and what
        ``guard`` raises, which is called right before an operation that can be planned begins."""
        if type == "virtualservice" and operation in [kind.value for kind in RequestKind]:
            return await self._on_vip(uuid, RequestKind(operation), body, caller, guard)
        if (type, operation) == ("poolgroup", PRIMARY):
            pool = body.get("pool_uuid")
            if not isinstance(pool, str) or not pool:
                raise Invalid([Problem(path="pool_uuid", why="must be the uuid of a pool")])
            await self.make_primary(uuid, pool)
            return {}
        if (type, operation) == ("virtualservice", "resync"):
            return self._resync(uuid, body)
        if (type, operation) == ("serviceengine", "drill"):
            return self._drill(uuid, body, caller)
        if (type, operation) == ("serviceengine", "switchover"):
            engine = self._engine_of(uuid)
            none = f"{engine.name} is active for nothing."
            return await self._all(engine.group, self.switchovers(engine), none, caller, guard)
        if (type, operation) == ("serviceenginegroup", "redistribute"):
            none = "Every virtual service is active on its side already."
            return await self._all(uuid, self._homecomings(uuid), none, caller, guard)
        if (type, operation) == ("serviceenginegroup", "upgrade"):
            return await self._upgrades.begin(uuid, body, caller.user)
        if (type, operation) == ("serviceenginegroup", "endstorm"):
            return self._end_storm(uuid, caller)
        if (type, operation) == ("serviceenginegroup", "preflight"):
            return await self._preflights.run(uuid, body)
        if (type, operation) == ("sslkeyandcertificate", "renew"):
            return self.renew(uuid)
        if (type, operation) in NOT_YET:
            why, hint = NOT_YET[type, operation]
            raise Refused(why, hint=hint)
        if (type, operation) == ("serviceengine", "revokecertificate"):
            return await self._revoke(self._engine_of(uuid), caller)
        if type == "serviceengine" and operation in ("reboot", "forcedelete"):
            engine = self._engine_of(uuid)
            return await (self._reboot(engine) if operation == "reboot" else self._force_delete(engine, guard))
        known = ", ".join(sorted(name for owner, name in KINDS if owner == type))
        raise NotFound(f"There is no operation {operation} on {type}.", hint=f"There are: {known or 'none'}.")

    def propose(self, proposal: Proposal, type: str, uuid: str, operation: str, body: Body) -> None:
        """The same on paper, and ``delete`` of an engine. Raises what `operate` raises, and Refused for an operation
        that has no plan."""
        if type == "virtualservice" and operation in [kind.value for kind in RequestKind]:
            document = self._service(uuid)
            request = msgspec.structs.replace(self._request(document, RequestKind(operation), body), id=PROPOSED)
            proposal.ask(uuid_of(document["se_group_ref"]), request)
        elif (type, operation) == ("serviceengine", "switchover"):
            for request in self.switchovers(engine := self._engine_of(uuid)):
                proposal.ask(engine.group, request)
        elif (type, operation) == ("serviceenginegroup", "redistribute"):
            for request in self._homecomings(uuid):
                proposal.ask(uuid, request)
        elif type == "serviceengine" and operation in ("forcedelete", "delete"):
            engine = self._engine_of(uuid)
            if operation == "delete":
                self._refuse_in_use(engine)
            proposal.remove_engine(engine.id, engine.group)
        elif (type, operation) in NOT_YET:
            why, hint = NOT_YET[type, operation]
            raise Refused(why, hint=hint)
        else:
            raise Refused(f"There are no plans of {operation} on {type}.", hint=f"There are of: {', '.join(PLANNED)}.")

    def _engine_of(self, uuid: str) -> EngineRecord:
        engine = self._ledger.engines.get(uuid)
        if engine is None:
            raise NotFound(f"There is no service engine {uuid}.")
        return engine

    def _service(self, uuid: str) -> Body:
        document = self._view.get("virtualservice", uuid)
        if document is None:
            raise NotFound(f"There is no virtual service {uuid}.")
        return document

    async def _on_vip(
        self, service: str, kind: RequestKind, body: Body, caller: CallerLike, guard: Guard
    ) -> dict[str, Any]:
        document = self._service(service)
        group = uuid_of(document["se_group_ref"])
        request = self._request(document, kind, body)
        await self._known(request.to_host)
        guard()
        if kind is RequestKind.RETRY and self._reconciler.lifecycle is not None:
            self._reconciler.lifecycle.retry_now(group)
        (result,) = await self._answered(group, [request], caller)
        if result is not None and not result.ok:
            raise Refused(result.message)
        return {"status": result.message if result else "in progress", "request": request.id}

    async def _known(self, host: str) -> None:
        """A cloud that names no hosts says itself whether it knows this one."""
        hosts = [known.name for known in await self._cloud.hosts()] if host else []
        if hosts and host not in hosts:
            raise Invalid(
                [Problem(path="to_host_ref", value=host, why="no such host", hint=f"There are: {_list(hosts)}.")]
            )

    async def _answered(self, group: str, requests: list[Request], caller: CallerLike) -> list[RequestResult | None]:
        """What the first plan that has seen them says to each; None = accepted, and in progress."""
        records = (RequestRecord(request=request, user=caller.user) for request in requests)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._reconciler.request(group, *records)
        except TimeoutError:
            raise NotReady(
                "The operation was accepted, but no plan was made within 5 s.", hint="See the runtime for its progress."
            ) from None

    def _request(self, document: Body, kind: RequestKind, body: Body) -> Request:
        if kind is RequestKind.SWITCHOVER:
            self._legacy(uuid_of(document["se_group_ref"]), f"{document['name']} is in", "Use migrate.")
        problems = [
            Problem(path=name, why=f"unknown member of a {kind.value} request", hint=f"Known: {_list(MEMBERS[kind])}.")
            for name in body
            if name not in MEMBERS[kind]
        ]
        vip = str(body.get("vip_id", ""))
        vsvip = self._view.get("vsvip", uuid_of(document.get("vsvip_ref", "")))
        known = [entry["vip_id"] for entry in vsvip["vip"]] if vsvip else []
        if vip not in known:
            why = "required" if not vip else "this virtual service has no such VIP"
            problems.append(Problem(path="vip_id", value=vip, why=why, hint=f"It has: {_list(known)}."))
        to_engine = self._engine(body, "to_se_ref", problems)
        to_engine = to_engine or self._engine(body, "se_uuid", problems)
        from_engine = self._engine(body, "from_se_ref", problems)
        if problems:
            raise Invalid(problems)
        return Request(
            id=self._fresh_id(),
            kind=kind,
            vip=vip_id(uuid_of(document["vsvip_ref"]), vip),
            at=self._clock.now(),
            to_engine=to_engine,
            to_new=bool(body.get("to_new_se", False)),
            to_host=str(body.get("to_host_ref", "")).rsplit("/", 1)[-1].removeprefix("?name="),
            from_engine=from_engine,
            scalein_primary=bool(body.get("scalein_primary", False)),
        )

    def _engine(self, body: Body, member: str, problems: list[Problem]) -> str:
        """An engine by uuid, reference or name; "" when the member is absent."""
        given = body.get(member, "")
        if not given:
            return ""
        if not isinstance(given, str):
            problems.append(Problem(path=member, value=str(given)[:80], why="must be a reference to a service engine"))
            return ""
        wanted = given.rsplit("name=", 1)[-1] if "name=" in given else uuid_of(given)
        for engine in self._ledger.engines.values():
            if wanted in (engine.id, engine.name):
                return engine.id
        names = _list(engine.name for engine in self._ledger.engines.values())
        problems.append(Problem(path=member, value=given, why="no such service engine", hint=f"There are: {names}."))
        return ""

    # --- legacy active/standby groups ---

    def switchovers(self, engine: EngineRecord) -> list[Request]:
        """All that the engine is active for to its peer; what it is standby for stays."""
        self._legacy(engine.group, f"{engine.name} is of", "Disable the service engine: what it serves moves.")
        vips = self._ledger.vips.get(engine.group, {}).values()
        active = [v.id for v in vips if any(p.engine == engine.id and p.role is Role.PRIMARY for p in v.placements)]
        return self._to_other_side(dict.fromkeys(active, ""))

    def _homecomings(self, group: str) -> list[Request]:
        """Each VIP back to the engine of its side."""
        self._legacy(group, "this is", "Use migrate on a virtual service.")
        snapshot = self._reconciler.present(group)
        up = [engine for engine in snapshot.engines if engine.state is EngineState.UP] if snapshot else []
        if snapshot is None or len(up) < pair.ENGINES:
            raise Refused("Redistribute needs both service engines of the pair.", hint="See show serviceengine.")
        return self._to_other_side(legacy.homes(snapshot, self._clock.now()))

    def _legacy(self, group: str, what: str, instead: str) -> None:
        document = self._view.get("serviceenginegroup", group)
        if document is None:
            raise NotFound(f"There is no service engine group {group}.")
        if document["ha_mode"] != presets.LEGACY:
            why = f"This is for legacy active/standby groups, and {what} {document['name']}, which is elastic."
            raise Refused(why, hint=instead)

    def _to_other_side(self, targets: Mapping[str, str]) -> list[Request]:
        """``targets``: VIP -> the engine that is to be active for it, "" = the standby."""
        now = self._clock.now()
        return [
            Request(id=self._fresh_id(), kind=RequestKind.SWITCHOVER, vip=vip, at=now, to_engine=engine)
            for vip, engine in targets.items()
        ]

    async def _all(
        self, group: str, requests: list[Request], none: str, caller: CallerLike, guard: Guard
    ) -> dict[str, Any]:
        """``none``: what to say when there is nothing to ask for."""
        guard()
        if not requests:
            return {"status": none}
        results = await self._answered(group, requests, caller)
        refused = [result.message for result in results if result is not None and not result.ok]
        if len(refused) == len(results):
            raise Refused(refused[0])
        moving = len(results) - len(refused)
        status = f"{moving} VIP{' is' if moving == 1 else 's are'} switching over: see VS_SWITCHOVER in show events."
        return {"status": " ".join([status, *refused])}

    def _resync(self, service: str, body: Body) -> dict[str, Any]:
        """Each engine of the service gets all it should run again; one that runs it already changes nothing."""
        document = self._service(service)
        problems: list[Problem] = []
        given = body.get("se_ref") or []
        wanted = [
            self._engine({"se_ref": one}, "se_ref", problems) for one in (given if isinstance(given, list) else [given])
        ]
        if problems:
            raise Invalid(problems)
        engines = [e for vip in self._vips(document) for e in engines_of(vip) if not wanted or e in wanted]
        sent = sorted({self._ledger.engines[e].name for e in engines if self._fleet.push_again(e)})
        return {"status": f"sent again to {_list(sent)}"}

    def _vips(self, service: Body) -> list[VipRecord]:
        vsvip = f"{uuid_of(service['vsvip_ref'])}/"
        records = self._ledger.vips.get(uuid_of(service["se_group_ref"]), {})
        return [record for id, record in records.items() if id.startswith(vsvip)]

    async def remove_idle(self, uuid: str, guard: Guard = lambda: None) -> None:
        """An operator deletes an engine. Raises Refused, naming the virtual services, while it serves any."""
        engine = self._ledger.engines.get(uuid)
        if engine is None:
            return
        self._refuse_in_use(engine)
        guard()
        await self._remove(engine, "deleted")

    def _refuse_in_use(self, engine: EngineRecord) -> None:
        records = self._ledger.vips.get(engine.group, {}).values()
        held = [record for record in records if any(p.engine == engine.id for p in record.placements)]
        vsvips = {vip.id.partition("/")[0] for vip in held}
        services = [s["name"] for s in self._view.all("virtualservice") if uuid_of(s.get("vsvip_ref", "")) in vsvips]
        if held:
            group = self._view.get("serviceenginegroup", engine.group) or {}
            legacy_group = group.get("ha_mode") == presets.LEGACY
            first = f"Use switchover serviceengine {engine.name}" if legacy_group else "Disable it"
            raise Refused(
                f"Cannot delete, {engine.name} serves {_list(services)}.",
                hint=f"{first} and wait until they have moved, or use forcedelete.",
            )

    async def _reboot(self, engine: EngineRecord) -> dict[str, Any]:
        self._events.add("REBOOT_SE", f"{engine.name}: asked for by an operator", serviceengine=engine.id)
        await self._cloud.restart(engine.id)
        return {"status": f"{engine.name} is being rebooted"}

    async def _revoke(self, engine: EngineRecord, caller: CallerLike) -> dict[str, Any]:
        """Whoever shows its certificate from now on is refused; the engine itself gets another one, and goes on serving
        meanwhile. Raises what the cloud says; repeated, it is tried again."""
        identity = self._identity(engine.id, engine.name)
        shown = fingerprint_of_pem(identity.certificate_pem)
        await self._ledger.repeat(Changes(engine_fields={engine.id: {"certificate": shown}}))
        self._events.add("CONFIG_ACTION", f"{engine.name}: certificate revoked by {caller.user}", level="warning",
                         serviceengine=engine.id)  # fmt: skip
        await self._cloud.renew(engine.id, identity)
        await self._fleet.disconnect(engine.id)
        return {"status": f"the certificate of {engine.name} is revoked, and it has another one"}

    def _drill(self, uuid: str, body: Body, caller: CallerLike) -> dict[str, Any]:
        """A drill begins or ends, on a word of the one who does it: so that the events tell it from a real failure."""
        engine = self._engine_of(uuid)
        text = body.get("text")
        if not isinstance(text, str) or not 0 < len(text) <= DRILL_TEXT_MAX or not text.isprintable():
            why = f"must be a text of at most {DRILL_TEXT_MAX} printable characters"
            raise Invalid([Problem(path="text", value=str(text)[:40], why=why)])
        self._events.add("SE_DRILL", f"{engine.name}: {text} ({caller.user})", serviceengine=engine.id)
        return {"status": "noted"}

    def _end_storm(self, uuid: str, caller: CallerLike) -> dict[str, Any]:
        """Engines that are out of sight count as down from now on; what they hold is placed anew, paced."""
        group = self._view.get("serviceenginegroup", uuid)
        if group is None:
            raise NotFound(f"There is no service engine group {uuid}.")
        suspects = self._fleet.end_storm(uuid)
        if suspects is None:
            raise Refused(f"{group['name']} has no storm: none of its engines is suspect.")
        names = _list(self._ledger.engines[engine].name for engine in suspects if engine in self._ledger.engines)
        status = f"counted as down: {names}"
        self._events.add("CONFIG_ACTION", f"{group['name']}: storm ended by {caller.user}; {status}", level="warning",
                         serviceenginegroup=uuid)  # fmt: skip
        self._reconciler.mark(uuid)
        return {"status": status}

    async def _force_delete(self, engine: EngineRecord, guard: Guard) -> dict[str, Any]:
        """The engine goes at once; what it served moves as if it had died."""
        guard()
        await self._remove(engine, "force deleted")
        return {"status": f"{engine.name} is being deleted"}

    async def _remove(self, engine: EngineRecord, how: str) -> None:
        await self._ledger.repeat(Changes(engines={engine.id: None}))
        self._events.add("DELETING_SE", f"{engine.name}: {how} by an operator", serviceengine=engine.id)
        if self._reconciler.lifecycle is not None:
            self._reconciler.lifecycle.retire(engine)
        self._reconciler.mark(engine.group)


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
