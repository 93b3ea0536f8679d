"""The shell's way to the controller: one session, errors in words."""

from __future__ import annotations

import hmac
import re
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from shoal import API_VERSION
from shoal.errors import Invalid, NotFound, NotReady, Problem, ShoalError, Unauthenticated
from shoal.objects.check import meant, shown
from shoal.objects.registry import CLOUD_SCOPED

TIMEOUT_S = 30.0
HINT = "Is it running (shoal status), and is --controller right?"
ERRNO = re.compile(r"\[Errno -?\d+\] ")
PAGE_SIZE = 200
STALE = 412
CLOUD_TYPES = frozenset(name.lower() for name in CLOUD_SCOPED)
Document = dict[str, Any]


class Refusal(ShoalError):
    """The controller said no; the words are its. ``problems``: field by field, where it says so."""

    problems: tuple[Document, ...] = ()


class PlanMoved(Refusal):
    """What a plan was made from has changed, so it was not applied. ``changed``: what, in sentences; ``plan``: the
    present one."""

    def __init__(self, words: str, changed: list[str], plan: Document) -> None:
        super().__init__(words)
        self.changed = changed
        self.plan = plan


class Client:
    """``url`` such as ``https://host:9443``; ``ca`` a PEM file to verify the controller by (None = unverified)."""

    def __init__(self, url: str, user: str, password: str, *, tenant: str = "admin", ca: str | None = None) -> None:
        if "://" not in url:
            url = f"https://{url}"
        self.url = url.rstrip("/")
        self.tenant = tenant
        self._credentials = {"username": user, "password": password}
        try:
            self._verify = _context(ca)
            self._http = httpx.Client(base_url=self.url, verify=self._verify, timeout=TIMEOUT_S, trust_env=False)
        except httpx.InvalidURL as error:
            raise Invalid([Problem(path="--controller", value=shown(url), why=f"is no URL: {error}")]) from None
        self.warnings: list[str] = []
        """Of the last write."""
        self.on_call: Callable[[str, str, Document | None], object] | None = None
        """Told of each call: method, path below ``/api/``, body."""
        self.cloud = ""
        """The working context of types that belong to a cloud, by name; "" = every cloud."""

    def login(self) -> None:
        """Raises Unauthenticated, NotReady (with what to check)."""
        answer = self._send("POST", "/login", data=self._credentials)
        if answer.status_code != 200:
            raise Unauthenticated(_words(answer))

    def password_is(self, text: str) -> bool:
        """Whether it is the one this session was opened with."""
        return hmac.compare_digest(text.encode(), self._credentials["password"].encode())

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: Document | None = None, *, within_s: float = TIMEOUT_S) -> Any:
        """Raises Refusal, NotFound, NotReady. A session that has ended is opened again, once."""
        if self.on_call is not None:
            self.on_call(method, path, body)
        answer = self._signed_in(lambda: self._api(method, path, body, within_s))
        if method != "GET":  # completion reads meanwhile, in a thread of its own
            self.warnings = answer.headers.get_list("x-shoal-warning")
        if answer.status_code >= 300:
            raise refused(answer)
        return self._document(answer) if answer.content else None

    def binary(self, path: str, body: Document, *, within_s: float = TIMEOUT_S) -> bytes:
        """The answer to a POST that is no document. Raises as `call`; after `login`."""
        answer = self._api("POST", path, body, within_s)
        if answer.status_code >= 300:
            raise refused(answer)
        return answer.content

    def upload(self, path: str, form: Document, file: bytes, *, within_s: float = TIMEOUT_S) -> Any:
        """A POST of a form with a file. Raises as `call`."""
        if self.on_call is not None:
            self.on_call("POST", path, form)
        address, sent = f"/api/{path}", {"file": ("file", file)}
        answer = self._signed_in(
            lambda: self._send("POST", address, data=form, files=sent, headers=self.headers(), timeout=within_s)
        )
        self.warnings = answer.headers.get_list("x-shoal-warning")
        if answer.status_code >= 300:
            raise refused(answer)
        return self._document(answer)

    def _signed_in(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer; a session that has ended is opened again, once."""
        answer = ask()
        if answer.status_code == 401:
            self.login()
            answer = ask()
        return answer

    def _document(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise NotReady(f"What answers at {self.url} is no Shoal controller.", hint=HINT) from None

    def _api(self, method: str, path: str, body: Document | None, within_s: float) -> httpx.Response:
        return self._send(method, f"/api/{path}", json=body, headers=self.headers(), timeout=within_s)

    def headers(self) -> dict[str, str]:
        """Of each request after the log-in."""
        return {
            "X-CSRFToken": self._http.cookies.get("csrftoken") or "",
            "X-Avi-Version": API_VERSION,
            "X-Avi-Tenant": self.tenant,
            "Referer": self.url,
        }

    def asynchronous(self, within_s: float) -> httpx.AsyncClient:
        """Another client of the same session; to be closed by the caller."""
        return httpx.AsyncClient(
            base_url=self.url, verify=self._verify, timeout=within_s, trust_env=False, cookies=self._http.cookies
        )

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            why = ERRNO.sub("", str(error)) or type(error).__name__
            raise NotReady(f"The controller at {self.url} does not answer: {why}.", hint=HINT) from None

    # --- objects ---

    def named(self, type: str, name: str) -> Document | None:
        query = f"name={quote(name, safe='')}&include_name={self._in_cloud(type)}"
        found: list[Document] = self.call("GET", f"{type}?{query}")["results"]
        return found[0] if found else None

    def object(self, type: str, name: str) -> Document:
        """Raises NotFound with the nearest name."""
        found = self.named(type, name)
        if found is None:
            known = [str(document.get("name", "")) for document in self.all(type, "name")]
            hint = meant(name, known) or (f"There are: {', '.join(known[:10])}." if known else "There is none yet.")
            raise NotFound(f"There is no {type} {name[:80]}.", hint=hint)
        return found

    def singleton(self, type: str) -> Document:
        found: Document = self.call("GET", f"{type}?include_name=")
        return found

    def all(self, type: str, fields: str = "", *, within_s: float = TIMEOUT_S) -> list[Document]:
        """Every object of a type, all pages; ``within_s`` bounds each."""
        found: list[Document] = []
        number = 1
        while True:
            query = f"include_name=&page_size={PAGE_SIZE}&page={number}&fields={fields}{self._in_cloud(type)}"
            page = self.call("GET", f"{type}?{query}", within_s=within_s)
            found += page["results"]
            if "next" not in page:
                return found
            number += 1

    def begun(self, type: str, text: str, *, within_s: float = TIMEOUT_S) -> tuple[list[str], int]:
        """(names of a type that begin with a text, in any case, at most `PAGE_SIZE` of them; how many there are)."""
        wanted = f"&name.istartswith={quote(text, safe='')}" if text else ""
        query = f"fields=name&page_size={PAGE_SIZE}{wanted}{self._in_cloud(type)}"
        page = self.call("GET", f"{type}?{query}", within_s=within_s)
        return [str(document.get("name", "")) for document in page["results"]], page["count"]

    def _in_cloud(self, type: str) -> str:
        return f"&cloud_ref.name={quote(self.cloud, safe='')}" if self.cloud and type in CLOUD_TYPES else ""

    def node_name(self) -> str:
        nodes = self.singleton("cluster").get("nodes") or [{"name": "controller"}]
        return str(nodes[0]["name"]).replace(".", "-")


def _context(ca: str | None) -> ssl.SSLContext:
    if ca:
        try:
            return ssl.create_default_context(cafile=ca)
        except ssl.SSLError as error:
            raise Invalid([Problem(path="--ca", value=ca, why=f"is no PEM file of certificates: {error}")]) from None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def refused(answer: httpx.Response) -> ShoalError:
    """The controller's words as an error."""
    if answer.status_code == STALE and (body := _body(answer)).keys() >= {"changed", "plan"}:
        return PlanMoved(_words(answer), body["changed"], body["plan"])
    if answer.status_code == 404:
        return NotFound(_words(answer))
    refusal = Refusal(_words(answer))
    refusal.problems = tuple(_body(answer).get("problems") or ())
    return refusal


def _words(answer: httpx.Response) -> str:
    return str(_body(answer).get("error", f"status {answer.status_code}"))


def _body(answer: httpx.Response) -> Document:
    """The answer's document; empty if it is none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
