"""From the error tree to HTTP: ``{"error": "..."}`` with the sentence(s), and nothing of our insides (reference: api.md 5.6)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping

import msgspec
from starlette.responses import PlainTextResponse, Response

from shoal.controller.plans import PlanChanged
from shoal.errors import Invalid, NotAllowed, ShoalError, TooMany, Unauthenticated

log = logging.getLogger("shoal.api")

JSON = "application/json"


class CsrfFailed(Unauthenticated):
    """Answered in plain text, as clients know it; 401 (not 403) makes them log in again (reference: api.md 2.2)."""


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, headers=headers, media_type=JSON)


def refusal(error: ShoalError) -> Response:
    """The answer to a request that was refused. Field errors come as ``problems`` too, one entry each."""
    if error.status >= 500:
        log.warning("answered %d: %s", error.status, error)
    if isinstance(error, CsrfFailed):
        return PlainTextResponse(str(error), error.status)
    body: dict[str, object] = {"error": str(error)}
    if isinstance(error, Invalid):
        body["problems"] = error.problems
    if isinstance(error, PlanChanged):
        body |= {"changed": error.changed, "plan": error.plan}
    headers: dict[str, str] = {}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, NotAllowed):
        headers["Allow"] = error.allowed
    return json_response(body, error.status, headers)


def method_not_allowed(method: str, where: str, allowed: str) -> NotAllowed:
    """The exact words ``Method 'DELETE' not allowed`` make Ansible treat it as nothing to do (reference: api.md 5.2)."""
    return NotAllowed(f"Method '{method}' not allowed on {where}.", hint=f"Allowed: {allowed}.", allowed=allowed)


def unexpected(error: Exception, what: str) -> Response:
    """A fault of ours: logged with an id, answered with that id and without details."""
    id = secrets.token_hex(6)
    log.error("error %s while answering %s", id, what, exc_info=error)
    return json_response(
        {"error": f"Something went wrong inside the controller. Its log has the details under {id}."}, 500
    )
