"""What an engine is to do with a pool beside balancing: who comes back to which server, limits, and when all are down."""

from __future__ import annotations

from shoal.objects import views
from shoal.wire import policy
from shoal.wire.desired import RETRIED_STATUSES, Persistence, Retry

SECONDS_PER_MINUTE = 60


def persistence(profile: views.ApplicationPersistenceProfile) -> Persistence | None:
    """None for the kinds that engines do not have."""
    match profile.persistence_type:
        case "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS" | "PERSISTENCE_TYPE_CLIENT_IPV6_ADDRESS":
            return Persistence(kind="client")
        case "PERSISTENCE_TYPE_HTTP_COOKIE":
            cookie = profile.http_cookie_persistence_profile or views.CookiePersistence()
            seconds = cookie.timeout * SECONDS_PER_MINUTE if cookie.is_persistent_cookie else 0
            return Persistence(kind="cookie", name=cookie.cookie_name, timeout_s=seconds, http_only=cookie.http_only)
        case "PERSISTENCE_TYPE_APP_COOKIE":
            app = profile.app_cookie_persistence_profile
            return Persistence(kind="app_cookie", name=app.prst_hdr_name) if app and app.prst_hdr_name else None
        case "PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER":
            header = profile.hdr_persistence_profile
            return Persistence(kind="header", name=header.prst_hdr_name) if header and header.prst_hdr_name else None
    return None


def retry(wanted: views.ServerReselect | None) -> Retry | None:
    """Of the statuses asked for, those that engines can take for no answer."""
    if wanted is None or not wanted.enabled:
        return None
    codes = wanted.svr_resp_code or views.ReselectCodes()
    blocks = [int(block[-3]) for block in codes.resp_code_block]
    asked = {*codes.codes, *(code for one in codes.ranges for code in range(one.begin, one.end + 1))}
    asked |= {code for code in RETRIED_STATUSES if code // 100 in blocks}
    statuses = tuple(code for code in RETRIED_STATUSES if code in asked)
    return Retry(times=wanted.num_retries, statuses=statuses, every_method=wanted.retry_nonidempotent)


def without_servers(action: views.FailAction | None) -> policy.Redirect | policy.Respond | policy.Close | None:
    """``FAIL_ACTION_BACKUP_POOL`` is the original's own word for pools of a group: as if there were none."""
    match action:
        case views.FailAction(type="FAIL_ACTION_CLOSE_CONN"):
            return policy.Close()
        case views.FailAction(type="FAIL_ACTION_HTTP_LOCAL_RSP", local_rsp=response):
            response = response or views.FailResponse()
            file = response.file
            return policy.Respond(
                status=int(response.status_code.rpartition("_")[2]),
                content_type=file.content_type if file else "",
                body=file.file_content if file else "",
            )
        case views.FailAction(type="FAIL_ACTION_HTTP_REDIRECT", redirect=views.FailRedirect() as redirect):
            return policy.Redirect(
                status=int(redirect.status_code.rpartition("_")[2]),
                tls=redirect.protocol == "HTTPS",
                host=_text(redirect.host),
                path=_text(redirect.path),
                keep_query=False,
                add_query=redirect.query,
            )
    return None


def _text(text: str) -> tuple[policy.Piece, ...]:
    return (policy.Piece(kind="text", text=text),) if text else ()
