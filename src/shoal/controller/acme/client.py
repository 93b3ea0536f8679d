"""The ACME protocol (RFC 8555) as far as it takes to get a certificate."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpx
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from shoal.controller.outward import Outward
from shoal.errors import ShoalError

VALID_WITHIN_S = 120.0
"""From a proof being offered to the authority's word, and again from there to the certificate."""
POLL_S = (0.5, 5.0)
"""Between questions, growing from the first to the second."""
NONCE_TRIES = 10
"""An authority may forget nonces, and then names another (RFC 8555, 6.5)."""
JOSE = "application/jose+json"
_headers = jws.JWSRegistry(strict_check_header=False)
Document = dict[str, Any]
Sleep = Callable[[float], Awaitable[None]]


class AcmeFailure(ShoalError):
    """The authority refused, did not answer, or answered what is no ACME; the text is for a person."""


class Client:
    """An account at one authority."""

    def __init__(
        self,
        directory: str,
        key: ECKey,
        contact: Sequence[str],
        context: ssl.SSLContext,
        outward: Outward,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._directory_url = directory
        self._key = key
        self._contact = contact
        self._context = context
        self._outward = outward
        self._sleep = sleep
        self._directory: Document = {}
        self._nonce = ""
        self._account = ""

    async def certificate(self, names: Iterable[str], request: bytes) -> str:
        """The certificate and its chain, in PEM, for a signing request (DER) of these names. Raises AcmeFailure."""
        try:
            async with self._outward.asking(self._context) as http:
                return await self._certificate(http, names, request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AcmeFailure(f"{self._directory_url} is not reached: {error or type(error).__name__}") from error
        except (KeyError, TypeError, IndexError, AttributeError, ValueError, JoseError) as error:
            raise AcmeFailure(f"{self._directory_url} answers what is no ACME: {error!r}") from error

    async def _certificate(self, http: httpx.AsyncClient, names: Iterable[str], request: bytes) -> str:
        self._account = ""
        self._directory = _json(await http.get(self._directory_url))
        account: Document = {"termsOfServiceAgreed": True}
        if self._contact:
            account["contact"] = [one if ":" in one else f"mailto:{one}" for one in self._contact]
        reply = await self._post(http, self._directory["newAccount"], account)
        self._account = reply.headers["location"]
        reply = await self._post(http, self._directory["newOrder"], {"identifiers": [_identifier(n) for n in names]})
        order, place = _json(reply), reply.headers["location"]
        for url in order["authorizations"]:
            await self._prove(http, url)
        order = await self._until(http, place, ("ready", "valid"))
        if order["status"] == "ready":
            await self._post(http, order["finalize"], {"csr": _encoded(request)})
            order = await self._until(http, place, ("valid",))
        return (await self._post(http, order["certificate"], None)).text

    async def _prove(self, http: httpx.AsyncClient, url: str) -> None:
        authorization = _json(await self._post(http, url, None))
        if authorization["status"] == "valid":
            return
        name = authorization["identifier"]["value"]
        challenge = next((one for one in authorization["challenges"] if one["type"] == "http-01"), None)
        if challenge is None:
            raise AcmeFailure(f"{self._directory_url} takes no proof by HTTP (http-01) for {name}.")
        await self._post(http, challenge["url"], {})
        await self._until(http, url, ("valid",))

    async def _until(self, http: httpx.AsyncClient, url: str, wanted: tuple[str, ...]) -> Document:
        """The object, once its status is one of these."""
        waited, pause = 0.0, POLL_S[0]
        while waited < VALID_WITHIN_S:
            found = _json(await self._post(http, url, None))
            if found["status"] in wanted:
                return found
            if found["status"] not in ("pending", "processing", "ready"):
                raise AcmeFailure(_why(found) or f"{url} is {found['status']}.")
            await self._sleep(pause)
            waited, pause = waited + pause, min(pause * 1.5, POLL_S[1])
        raise AcmeFailure(f"{url} is still {found['status']} after {VALID_WITHIN_S:.0f} s.")

    async def _post(self, http: httpx.AsyncClient, url: str, payload: Document | None) -> httpx.Response:
        """Signed; None asks for what is there (RFC 8555, 6.3)."""
        text = b"" if payload is None else json.dumps(payload).encode()
        for _ in range(NONCE_TRIES):
            if not self._nonce:
                reply = await http.head(self._directory["newNonce"])
                self._nonce = reply.headers["replay-nonce"]
            header: Document = {"alg": "ES256", "nonce": self._nonce, "url": url}
            header |= {"kid": self._account} if self._account else {"jwk": self._key.as_dict(private=False)}
            signed = jws.serialize_json({"protected": header}, text, self._key, registry=_headers)
            reply = await http.post(url, content=json.dumps(signed), headers={"content-type": JOSE})
            self._nonce = reply.headers.get("replay-nonce", "")
            if reply.status_code < 400:
                return reply
            problem = _json(reply)
            if problem.get("type") != "urn:ietf:params:acme:error:badNonce":
                raise AcmeFailure(_why({"error": problem}) or f"{url} answers {reply.status_code}.")
        raise AcmeFailure(f"{url} took none of {NONCE_TRIES} nonces of its own.")


def _identifier(name: str) -> Document:
    try:
        return {"type": "ip", "value": str(ipaddress.ip_address(name))}
    except ValueError:
        return {"type": "dns", "value": name}


def _why(found: Document) -> str:
    """The problem (RFC 7807) of an order, an authorization or an answer in words."""
    own = found.get("error") or {}
    below = [one.get("error") or {} for one in found.get("challenges") or ()] + list(own.get("subproblems") or ())
    details = [str(one["detail"]) for one in (own, *below) if one.get("detail")]
    return "; ".join(dict.fromkeys(details))[:500]


def _json(reply: httpx.Response) -> Document:
    found = json.loads(reply.content)
    if not isinstance(found, dict):
        raise AcmeFailure(f"{reply.url} answers what is no ACME.")
    return found


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
