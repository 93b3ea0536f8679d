"""What the product demands of a document beyond its schema. Each rule may fill in, warn, or name problems.

::

    change   the write on its way        groups    service engine groups     engines   service engines
    services virtual services            pools     pools                     vips      VsVips
    monitors health monitors             profiles  network profiles          networks  networks
    clusters the controller's nodes      certificates  keys and certificates   policies  HTTP and network policies
    users    users and roles             alerts     alerts                    vrfs      VRFs and their routers
    providers  DNS servers           interfaces  VLANs of service engines    segments  one address, one engine
    files    about addresses, and their databases
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from shoal.controller.freed import Freed
from shoal.controller.permissions import Rights
from shoal.controller.view import View
from shoal.errors import Invalid

from . import (
    alerts,
    certificates,
    clusters,
    engines,
    files,
    groups,
    monitors,
    networks,
    policies,
    pools,
    profiles,
    providers,
    services,
    sso,
    users,
    vips,
    vrfs,
)
from .change import Around, Change, Rule

__all__ = ["Change", "Rules"]

FILL: dict[str, Rule] = {
    "serviceenginegroup": groups.fill,
    "virtualservice": services.fill,
    "pool": pools.fill,
    "vsvip": vips.fill,
    "serviceengine": engines.fill,
    "user": users.fill,
    "fileobject": files.fill,
}
CHECK: dict[str, Rule] = {
    "serviceenginegroup": groups.check,
    "virtualservice": services.check,
    "pool": pools.check,
    "poolgroup": pools.check_group,
    "poolgroupdeploymentpolicy": pools.check_deployment,
    "healthmonitor": monitors.check,
    "networkprofile": profiles.check,
    "analyticsprofile": profiles.check_analytics,
    "applicationprofile": profiles.check_application,
    "applicationpersistenceprofile": profiles.check_persistence,
    "sslprofile": profiles.check_ssl,
    "ipamdnsproviderprofile": providers.check,
    "errorpageprofile": profiles.check_error_pages,
    "errorpagebody": profiles.check_error_page,
    "network": networks.check,
    "cluster": clusters.check,
    "sslkeyandcertificate": certificates.check,
    "pkiprofile": certificates.check_authorities,
    "certificatemanagementprofile": certificates.check_management,
    "serviceengine": engines.check,
    "vsvip": vips.check,
    "vrfcontext": vrfs.check,
    "alertconfig": alerts.check,
    "alertemailconfig": alerts.check_mail,
    "alertsyslogconfig": alerts.check_syslog,
    "actiongroupconfig": alerts.check_actions,
    "snmptrapprofile": alerts.check_traps,
    "user": users.check,
    "role": users.check_role,
    "authmappingprofile": users.check_mapping,
    "authprofile": sso.check_profile,
    "ssopolicy": sso.check_policy,
    "jwtserverprofile": sso.check_server,
    "systemconfiguration": users.check_authentication,
    "httppolicyset": policies.check,
    "stringgroup": policies.check_strings,
    "vsdatascriptset": policies.check_scripts,
    "l4policyset": policies.check_l4,
    "networksecuritypolicy": policies.check_network,
    "fileobject": files.check,
    "geodb": files.check_geo,
    "ipreputationdb": files.check_reputation,
}


PREPARE: dict[str, Callable[[Change], None]] = {
    "sslkeyandcertificate": certificates.make_key,
    "sslprofile": profiles.prepare_ssl,
}
"""What takes long, and is done in a thread before the write is looked at."""


class Rules:
    """``reserved`` are the networks that VIPs may not come from (the engines' own addresses), ``freed`` addresses that
    may still be answered for."""

    def __init__(
        self, view: View, reserved: Callable[[str], bool] = lambda address: False, freed: Freed | None = None
    ) -> None:
        self.freed = freed if freed is not None else Freed()
        self._around = Around(view, reserved, self.freed)

    def on(self, view: View, freed: Freed | None = None) -> Rules:
        """The same rules for other documents, and a copy of what was freed."""
        return Rules(view, self._around.reserved, (freed if freed is not None else self.freed).copy())

    async def prepare(self, change: Change) -> None:
        """Once for each write, before all else."""
        work = PREPARE.get(change.type)
        if work is not None:
            await asyncio.to_thread(work, change)

    def fill(self, change: Change) -> None:
        """Before validation: what the controller fills in when the client leaves it out."""
        rule = FILL.get(change.type)
        if rule is not None:
            rule(change, self._around)

    def check(self, change: Change) -> None:
        """After validation and resolution. Raises Invalid (all problems), Refused or Duplicate."""
        rule = CHECK.get(change.type)
        if rule is not None:
            rule(change, self._around)
        if change.problems:
            raise Invalid(change.problems)

    def deletable(self, type: str, document: Mapping[str, Any], rights: Rights) -> None:
        """Raises Refused for what must not go, Forbidden for what must not go by these rights."""
        if type == "user":
            users.check_deletion(document, rights, self._around)
