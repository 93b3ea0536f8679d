"""What the prober should look at: every VIP with a service that is to be served, and who may answer for it.

Whether it is placed does not matter: one that was never served is silently watched until it is.
"""

from __future__ import annotations

from shoal.observe.watch import Target, Targets

from .compiler import Compiler
from .ledger import Ledger
from .protocols import Documents, proxied


def targets(ledger: Ledger, compiler: Compiler, documents: Documents) -> Targets:
    """A VIP with fast paths only is asked for its MAC and not for a connection, which would be one of a server's."""
    found = []
    for group, vips in ledger.vips.items():
        for id in vips:
            intent = compiler.intent(group, id)
            services = [(service, port) for service in intent.enabled for port in service.services] if intent else []
            address = next((a for a in intent.addresses if ":" not in a), "") if intent else ""
            if services and address:  # the prober speaks IPv4 only
                asked = (port.port for service, port in services if proxied(documents, service, port))
                found.append(Target(vip=id, address=address, port=next(asked, 0)))
    engines = {engine.mac: engine.id for engine in ledger.engines.values() if engine.mac}
    return Targets(engines=engines, vips=tuple(found))
