"""``shoal cutover``: a virtual service moves from another controller to this one, and back by itself if it does not answer.

The address moves, so all virtual services that share it move together. At every moment one of the two controllers has it
switched on at most: it is switched off there before it is switched on here, and the other way round on the way back.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import click

from shoal.errors import NotFound, NotReady, Refused, ShoalError
from shoal.objects.views import uuid_of

from .client import Client
from .options import run, with_client

Document = dict[str, Any]
PROBE_TIMEOUT_S = 2.0
PROBE_INTERVAL_S = 0.2
ANSWERS_IN_A_ROW = 5
BACK_WITHIN_S = 60.0
TRIES_MAX = 5
TRY_AGAIN_S = 1.0
EXIT_ROLLED_BACK = 4
EXIT_STUCK = 5


class Target(NamedTuple):
    """Where a service is asked. ``path``: by HTTP, else whether it takes a connection."""

    address: str
    port: int
    tls: bool = False
    path: str = ""

    def __str__(self) -> str:
        return f"{f'[{self.address}]' if ':' in self.address else self.address}:{self.port}{self.path}"


Probe = Callable[[Target], str]
"""What came back: "" for nothing, else a word for the kind of answer."""
Say = Callable[[str], None]


def asked(target: Target) -> str:
    """``connected``, or the status of the answer; "" if there is none."""
    try:
        if not target.path:
            socket.create_connection((target.address, target.port), PROBE_TIMEOUT_S).close()
            return "connected"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        more: dict[str, Any] = {"timeout": PROBE_TIMEOUT_S}
        connection = (
            http.client.HTTPSConnection(target.address, target.port, context=context, **more)
            if target.tls
            else http.client.HTTPConnection(target.address, target.port, **more)
        )
        try:
            connection.request("GET", target.path)
            return str(connection.getresponse().status)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return ""


class Side:
    """The virtual services of one address at one controller."""

    def __init__(self, client: Client, where: str, name: str) -> None:
        self._client = client
        self.where = where
        service = client.named("virtualservice", name)
        if service is None:
            raise NotFound(f"There is no virtual service {name} at {where}.")
        self.vsvip = _of(client, "vsvip", service.get("vsvip_ref", ""))
        everyone = client.all("virtualservice")
        self.services = [one for one in everyone if uuid_of(one.get("vsvip_ref", "")) == self.vsvip["uuid"]]
        self.names = sorted(one["name"] for one in self.services)

    @property
    def addresses(self) -> list[str]:
        found = []
        for vip in self.vsvip.get("vip", ()):
            found += [vip[field]["addr"] for field in ("ip_address", "ip6_address") if vip.get(field)]
        return sorted(found)

    def ports(self) -> set[tuple[str, int]]:
        return {(one["name"], port["port"]) for one in self.services for port in one.get("services", ())}

    def targets(self, path: str) -> list[Target]:
        ports = {
            port["port"]: bool(port.get("enable_ssl")) for one in self.services for port in one.get("services", ())
        }
        return [Target(a, port, tls, path) for a in self.addresses for port, tls in sorted(ports.items())]

    def on(self) -> list[str]:
        """The names of those that are enabled, as of now."""
        found = (self._client.call("GET", f"virtualservice/{one['uuid']}") for one in self.services)
        return sorted(one["name"] for one in found if one.get("enabled", True))

    def switch(self, names: list[str], *, enabled: bool) -> None:
        """Raises what the controller refuses it with, having tried them in order."""
        for one in self.services:
            if one["name"] in names:
                self._client.call("PATCH", f"virtualservice/{one['uuid']}", {"replace": {"enabled": enabled}})

    def insist(self, names: list[str], *, enabled: bool) -> None:
        """Again and again, for a while. Raises the last error."""
        for left in range(TRIES_MAX, 0, -1):
            try:
                self.switch(names, enabled=enabled)
                return
            except ShoalError:
                if left == 1:
                    raise
                time.sleep(TRY_AGAIN_S)


class RolledBack(Exception):
    """Why; all is as it was before."""


class Stuck(ShoalError):
    """It is neither here nor back: somebody has to look."""


class Cutover:
    """``resume``: it was cut short, so what is off at both is to be on here."""

    def __init__(
        self,
        old: Side,
        new: Side,
        path: str,
        *,
        within_s: float,
        probe: Probe,
        resume: bool = False,
        say: Say = click.echo,
    ) -> None:
        self._old = old
        self._new = new
        self._targets = old.targets(path)
        self._within_s = within_s
        self._probe = probe
        self._resume = resume
        self._say = say

    def check(self) -> dict[Target, str]:
        """What each target answers now. Raises Refused where the two are not the same service, or nothing can be told."""
        old, new = self._old, self._new
        if old.addresses != new.addresses or old.ports() != new.ports():
            raise Refused(
                f"They are not the same: {', '.join(old.names)} at {old.where} serve {_places(old)}, "
                f"{', '.join(new.names)} at {new.where} {_places(new)}.",
                hint="Import its configuration first: shoal import FILE --disabled --apply.",
            )
        if not self._targets:
            raise Refused(f"{', '.join(old.names)} have no address or no port, so nothing can be asked.")
        if both := sorted({*old.on()} & {*new.on()}):
            hint = "Disable them here first; imported with --disabled they are."
            raise Refused(f"{', '.join(both)} {'are' if both[1:] else 'is'} enabled at both controllers.", hint=hint)
        if not old.on() and not self._resume:
            hint = "If a cutover was cut short, go on with it: --resume."
            raise Refused(f"{', '.join(old.names)} are not enabled at {old.where}.", hint=hint)
        before = {target: self._probe(target) for target in self._targets}
        if old.on() and not any(before.values()):
            raise Refused(
                f"None of {', '.join(map(str, self._targets))} answers now, so it could not be told whether it does then.",
                hint="Run this where clients are.",
            )
        return before

    def run(self) -> None:
        """Raises RolledBack; Stuck where not even that was possible, with what to do."""
        before = self.check()
        names = self._old.names if self._resume else self._old.on()
        try:
            with self._said(f"disabled at {self._old.where}"):
                self._old.switch(names, enabled=False)
            with self._said(f"enabled at {self._new.where}"):
                self._new.switch(names, enabled=True)
            self._verify(before, self._within_s)
        except (ShoalError, KeyboardInterrupt) as error:
            self._back(names, before, str(error) or "interrupted")

    def _back(self, names: list[str], before: dict[Target, str], why: str) -> None:
        self._say(f"Back to {self._old.where}: {why}")
        try:
            self._new.insist(names, enabled=False)
            self._old.insist(names, enabled=True)
        except ShoalError as error:
            raise Stuck(
                f"It could not be moved back: {error}",
                hint=f"See that {', '.join(names)} are disabled at {self._new.where} and enabled at {self._old.where}.",
            ) from None
        try:
            self._verify(before, BACK_WITHIN_S)
        except NotReady as error:
            raise Stuck(f"It is enabled at {self._old.where} again, and does not answer: {error.message}") from None
        raise RolledBack(why)

    def _verify(self, before: dict[Target, str], within_s: float) -> None:
        """Every target that answered then gives that answer again, several times in a row. Raises NotReady."""
        wanted = {target: answer for target, answer in before.items() if answer} or dict.fromkeys(before, "")
        deadline = time.monotonic() + within_s
        row = 0
        while row < ANSWERS_IN_A_ROW:
            found = {target: self._probe(target) for target in wanted}
            wrong = [t for t, answer in found.items() if not answer or (wanted[t] and answer != wanted[t])]
            row = 0 if wrong else row + 1
            if wrong and time.monotonic() > deadline:
                target = wrong[0]
                was, now = wanted[target] or "an answer", found[target] or "nothing"
                raise NotReady(f"{target} gives {now} instead of {was} for {within_s:.0f} s.")
            time.sleep(PROBE_INTERVAL_S)
        self._say(f"{', '.join(map(str, wanted))}: answers as before.")

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        yield
        self._say(f"{', '.join(self._old.names)}: {what}.")


def _of(client: Client, type: str, reference: str) -> Document:
    uuid = uuid_of(reference)
    if not uuid:
        raise Refused(f"The virtual service has no {type}_ref.")
    found: Document = client.call("GET", f"{type}/{uuid}")
    return found


def _places(side: Side) -> str:
    return (
        f"{', '.join(side.addresses) or 'no address'} port {', '.join(str(port) for _, port in sorted(side.ports()))}"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.argument("name", metavar="VS")
@click.option("--from", "old_url", required=True, metavar="URL", help="The controller that has it today.")
@click.option("--from-user", default="admin", show_default=True, envvar="SHOAL_FROM_USER")
@click.option("--from-password", envvar="SHOAL_FROM_PASSWORD", help="Better in SHOAL_FROM_PASSWORD.")
@click.option("--from-tenant", default="admin", show_default=True)
@click.option("--from-ca", type=click.Path(exists=True, dir_okay=False), help="Verify that controller by this CA.")
@click.option("--http", "path", default="", metavar="PATH", help="Ask by HTTP, and expect the status it has today.")
@click.option("--within", "within_s", default=30.0, show_default=True, help="Seconds until it must answer here.")
@click.option("--resume", is_flag=True, help="A cutover was cut short: what is disabled at both is enabled here.")
@click.option("--check", is_flag=True, help="Say whether it could be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, what is done meanwhile on stderr.")
def command(
    client: Client,
    name: str,
    old_url: str,
    from_user: str,
    from_password: str | None,
    from_tenant: str,
    from_ca: str | None,
    path: str,
    within_s: float,
    resume: bool,
    check: bool,
    as_json: bool,
) -> int:
    """Move a virtual service from another controller to this one; back by itself if it does not answer.

    It is disabled there and enabled here, through both APIs, then asked from where this command runs. What shares its
    address moves with it. It must be here already: shoal import FILE --disabled --apply.

    Exit status: 0 moved, 4 rolled back, 5 neither (look at once), 1 refused: nothing was done.
    """
    if from_password is None:
        raise click.ClickException("No password of the other controller. Set SHOAL_FROM_PASSWORD.")
    say = partial(click.echo, err=True) if as_json else click.echo
    other = Client(old_url, from_user, from_password, tenant=from_tenant, ca=from_ca)
    try:
        other.login()
        client.login()
        sides = Side(other, other.url, name), Side(client, client.url, name)
        cutover = Cutover(*sides, path, within_s=within_s, probe=asked, resume=resume, say=say)
        if check:
            answers = {str(target): answer for target, answer in cutover.check().items()}
            for target, answer in answers.items():
                say(f"{target}: {answer or 'no answer'}")
            _as_json(as_json, name, "possible", answers=answers)
            return 0
        cutover.run()
    except RolledBack as error:
        click.echo(f"Rolled back, {name} is served as before. {error}", err=True)
        _as_json(as_json, name, "rolled back", why=str(error))
        return EXIT_ROLLED_BACK
    except Stuck as error:
        click.echo(f"Error: {error}", err=True)
        _as_json(as_json, name, "stuck", why=str(error))
        return EXIT_STUCK
    finally:
        other.close()
    say(f"{name} is served from here.")
    _as_json(as_json, name, "moved")
    return 0


def _as_json(wanted: bool, name: str, result: str, **more: Any) -> None:
    if wanted:
        click.echo(json.dumps({"virtualservice": name, "result": result, **more}))


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    return run(command, "shoal cutover", arguments)
