"""What a role allows: a level for each permission, the permission of each object type, and the roles every Shoal has."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shoal.objects import load

Document = Mapping[str, Any]
NONE, READ, WRITE = 0, 1, 2
LEVELS = {"NO_ACCESS": NONE, "READ_ACCESS": READ, "WRITE_ACCESS": WRITE}
WORDS = {level: word for word, level in LEVELS.items()}
PREFIX = "PERMISSION_"

SPECIAL = {
    "alertscriptconfig": "ACTIONGROUPCONFIG",
    "autoscalelaunchconfig": "AUTOSCALE",
    "availabilityzone": "CLOUD",
    "backup": "CONTROLLER",
    "backupconfiguration": "CONTROLLER",
    "cloudconnectoruser": "CLOUD",
    "cloudproperties": "CLOUD",
    "cloudruntime": "CLOUD",
    "cluster": "CONTROLLER",
    "controllerproperties": "CONTROLLER",
    "debugserviceengine": "TRAFFIC_CAPTURE",
    "debugvirtualservice": "TRAFFIC_CAPTURE",
    "fileobject": "FILE_OBJECT",
    "networkruntime": "NETWORK",
    "scheduler": "CONTROLLER",
    "seproperties": "CONTROLLER",
    "server": "POOL",
    "serverautoscalepolicy": "AUTOSCALE",
    "upgradestatusinfo": "UPGRADE",
    "useraccount": "EXEMPT",
    "useraccountprofile": "USER",
    "vcenterserver": "CLOUD",
    "vip": "VIRTUALSERVICE",
    "vsvip": "VIRTUALSERVICE",
}
"""Types whose permission is not named like them; what a vCenter cloud discovers is its cloud's."""
OPERATIONS = {
    "virtualservice": ("VIRTUALSERVICE_MAINTENANCE",),
    "pool": ("POOL_MAINTENANCE",),
}
"""Who may do the operations of an object without writing it: either permission is enough."""


@functools.cache
def known() -> tuple[str, ...]:
    """Every permission, without the prefix."""
    field = load().messages["Permission"].fields["resource"]
    return tuple(name.removeprefix(PREFIX) for name in field.enum)


@functools.cache
def of_type(type: str) -> str:
    """The permission that an object type takes, by its endpoint word."""
    type = type.lower().removesuffix("-inventory")
    if type.startswith("vimgr"):
        return "CLOUD"
    found = SPECIAL.get(type, type.upper())
    return found if found in known() else "CONTROLLER"


class Rights(msgspec.Struct, frozen=True):
    """``whole``: a superuser's. ``levels``: permission -> level; those that are missing are NONE."""

    whole: bool = False
    levels: Mapping[str, int] = {}

    def may(self, permission: str, level: int = READ) -> bool:
        return self.whole or self.levels.get(permission, NONE) >= level

    def reads(self, type: str) -> bool:
        return self.may(of_type(type))

    def writes(self, type: str) -> bool:
        return self.may(of_type(type), WRITE)

    def lacking(self, others: Mapping[str, int]) -> list[str]:
        """The permissions that ``others`` have beyond these."""
        return [permission for permission, level in others.items() if not self.may(permission, level)]


WHOLE = Rights(whole=True)


def levels_of(role: Document) -> dict[str, int]:
    """Of a Role; what it names twice counts as the most."""
    found: dict[str, int] = {}
    for privilege in role.get("privileges") or ():
        permission = str(privilege.get("resource", "")).removeprefix(PREFIX)
        found[permission] = max(found.get(permission, NONE), LEVELS.get(privilege.get("type", ""), NONE))
    return found


def united(some: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for levels in some:
        for permission, level in levels.items():
            found[permission] = max(found.get(permission, NONE), level)
    return found


# --- the roles every Shoal has ---

APPLICATIONS = [
    "VIRTUALSERVICE",
    "POOL",
    "POOLGROUP",
    "HEALTHMONITOR",
    "NETWORKPROFILE",
    "APPLICATIONPROFILE",
    "HTTPPOLICYSET",
    "IPADDRGROUP",
    "STRINGGROUP",
    "APPLICATIONPERSISTENCEPROFILE",
    "ANALYTICSPROFILE",
    "VSDATASCRIPTSET",
    "MICROSERVICEGROUP",
    "MICROSERVICE",
    "PRIORITYLABELS",
    "POOLGROUPDEPLOYMENTPOLICY",
    "DNSPOLICY",
    "TRAFFICCLONEPROFILE",
    "AUTOSCALE",
    "ERRORPAGEPROFILE",
    "ERRORPAGEBODY",
    "L4POLICYSET",
    "PROTOCOLPARSER",
    "FILE_OBJECT",
    "LABELGROUP",
    "GSLBSERVICE",
]
SECURITY = [
    "SSLPROFILE",
    "SSLKEYANDCERTIFICATE",
    "PKIPROFILE",
    "NETWORKSECURITYPOLICY",
    "SECURITYPOLICY",
    "CERTIFICATEMANAGEMENTPROFILE",
    "HARDWARESECURITYMODULEGROUP",
    "PINGACCESSAGENT",
    "SSOPOLICY",
    "IPREPUTATIONDB",
    "ICAP",
    "JWTSERVERPROFILE",
    "JWTPROFILE",
    "GEODB",
    "CSRFPOLICY",
    "AUTHPROFILE",
]
FIREWALL = ["WAFPOLICY", "WAFPROFILE", "WAFPOLICYPSMGROUP", "WAFCRS", "BOTDETECTIONPOLICY"]
INFRASTRUCTURE = [
    "CLOUD",
    "SERVICEENGINE",
    "SERVICEENGINEGROUP",
    "NETWORK",
    "VRFCONTEXT",
    "NETWORKSERVICE",
    "NATPOLICY",
    "IPAMDNSPROVIDERPROFILE",
    "CUSTOMIPAMDNSPROFILE",
    "GSLB",
    "GSLBGEODBPROFILE",
]
ALERTS = ["ALERT", "ALERTCONFIG", "ALERTEMAILCONFIG", "ALERTSYSLOGCONFIG", "ACTIONGROUPCONFIG", "SNMPTRAPPROFILE"]
PEOPLE = ["USER", "ROLE", "AUTHMAPPINGPROFILE"]
MAINTENANCE = ["VIRTUALSERVICE_MAINTENANCE", "POOL_MAINTENANCE"]
CAPTURE = ["TRAFFIC_CAPTURE"]
NOBODYS = {"INTERNAL"}
TENANTS = ["TENANT"]

ROLES: dict[str, tuple[tuple[list[str], int], ...]] = {
    "Tenant-Admin": (
        (APPLICATIONS + SECURITY + FIREWALL + ALERTS + PEOPLE + MAINTENANCE + CAPTURE, WRITE),
        (INFRASTRUCTURE + TENANTS + ["AUTHMAPPINGPROFILE"], READ),
    ),
    "Application-Admin": (
        (APPLICATIONS + ALERTS + MAINTENANCE + CAPTURE, WRITE),
        (SECURITY + FIREWALL + INFRASTRUCTURE + TENANTS, READ),
    ),
    "Application-Operator": (
        (MAINTENANCE, WRITE),
        (APPLICATIONS + SECURITY + FIREWALL + INFRASTRUCTURE + ALERTS + TENANTS, READ),
    ),
    "Security-Admin": (
        (SECURITY + FIREWALL, WRITE),
        (APPLICATIONS + INFRASTRUCTURE + ALERTS + TENANTS, READ),
    ),
    "WAF-Admin": ((FIREWALL, WRITE), (APPLICATIONS + SECURITY + TENANTS, READ)),
}
"""Beside System-Admin, who may do everything."""
SYSTEM_ADMIN = "System-Admin"


def made_roles() -> Iterable[tuple[str, dict[str, int]]]:
    """(name, levels) of each."""
    yield SYSTEM_ADMIN, {permission: WRITE for permission in known() if permission not in NOBODYS}
    for name, parts in ROLES.items():
        yield name, united(dict.fromkeys(permissions, level) for permissions, level in parts)


def privileges(levels: Mapping[str, int]) -> list[dict[str, str]]:
    """As a Role has them: every permission, in the schema's order."""
    return [{"resource": PREFIX + name, "type": WORDS[levels.get(name, NONE)]} for name in known()]
