"""What the prober should look at: every VIP with a service that is to be served, and who may answer for it.

Whether it is placed does not matter: one that was never served is silently watched until it is.
"""

from __future__ import annotations

import ipaddress

from shoal.observe.watch import Target, Targets

from .compiler import Compiler
from .interfaces import networks
from .ledger import Ledger
from .protocols import Documents, proxied


def targets(ledger: Ledger, compiler: Compiler, documents: Documents) -> Targets:
    """A VIP with fast paths only is asked for its MAC and not for a connection, which would be one of a server's. VIPs in
    VLANs are out of the prober's sight."""
    found = []
    beside = {
        network for engine in ledger.engines for network in networks(documents.get("serviceengine", engine) or {})
    }
    for group, vips in ledger.vips.items():
        for id in vips:
            intent = compiler.intent(group, id)
            services = [(service, port) for service in intent.serving for port in service.services] if intent else []
            address = next((a for a in intent.addresses if ":" not in a), "") if intent else ""  # it speaks IPv4 only
            if services and address and not any(ipaddress.ip_address(address) in network for network in beside):
                asked = (port.port for service, port in services if proxied(documents, service, port))
                found.append(Target(vip=id, address=address, port=next(asked, 0)))
    engines = {engine.mac: engine.id for engine in ledger.engines.values() if engine.mac}
    return Targets(engines=engines, vips=tuple(found))
