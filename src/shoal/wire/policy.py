"""HTTP policies as an engine carries them out: a closed vocabulary of conditions and actions, and rules made of them."""

from __future__ import annotations

import re

import msgspec

TO_THE_END = -1
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
"""A header or cookie that is looked up."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,120}")
"""A header that is written, or an HTTP method (RFC 9110, 5.6.2)."""
FINGERPRINT = r"[0-9A-Fa-f]{32}"
COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")
"""RFC 6265, 4.1.1."""
LOOKUP_PAIRS_MAX = 500
TEXT_CHARACTERS_MAX = 2_000
"""Of one text in an engine's configuration."""
LIMITS_MAX = 3
"""What a virtual service's rate limits count by: HAProxy 2.6 counts a request for so many keys at most."""


class Test(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One condition on a request or its response: that any of ``values`` fits, or with ``negated`` none does.

    ``of``: hello (fingerprints of what a TLS client begins with: JA3, in hexadecimal), client (addresses and prefixes), source (of its connection, where a header says who the client is), client_port, port (of the virtual service; ``80``, ``8000:8010``), tls, method, version, path, query, host, header,
    cookie; of responses status (``404``, ``500:599``), response_header, location. ``how``: equals, begins, ends,
    contains, regex, exists (any value).
    """

    of: str
    how: str = "equals"
    values: tuple[str, ...] = ()
    name: str = ""
    """Of a header or cookie."""
    lists: tuple[str, ...] = ()
    """Instead of ``values``, of client: ids of lists of networks (`shoal.wire.networks`), one of which has it."""
    sensitive: bool = False
    """Whether upper and lower case differ."""
    decoded: bool = False
    """Compared after URL decoding."""
    negated: bool = False


class Piece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a new host or path: ``text``, what the rule's `Lookup` has ``found``, or parts ``first`` to ``last`` (from 0) of
    the request's ``host`` (between dots) or ``path`` (between slashes)."""

    kind: str
    text: str = ""
    first: int = 0
    last: int = TO_THE_END


class Redirect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="redirect"):
    """``host`` and ``path`` () are the request's; ``port`` 0 is the scheme's own."""

    status: int = 302
    tls: bool = False
    port: int = 0
    host: tuple[Piece, ...] = ()
    path: tuple[Piece, ...] = ()
    keep_query: bool = True
    add_query: str = ""


class Rewrite(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="rewrite"):
    """Changes what the server gets; () and "" leave a part as it is."""

    host: tuple[Piece, ...] = ()
    path: tuple[Piece, ...] = ()
    keep_query: bool = True
    add_query: str = ""


class Location(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="location"):
    """Of a response: the Location header, with the request's host and path unless others are given."""

    tls: bool = False
    port: int = 0
    host: tuple[Piece, ...] = ()
    path: tuple[Piece, ...] = ()
    keep_query: bool = True


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="header"):
    """``action``: add, replace (all of the name) or remove. The value is ``value``, or what ``variable`` (one of
    `VARIABLES`) is; for ``header`` ``value`` names the header. With ``cookie`` it is about that cookie in a header ``Cookie``
    (replace, remove) or ``Set-Cookie`` (replace), not about the rest of it."""

    action: str
    name: str
    value: str = ""
    variable: str = ""
    cookie: str = ""


class Respond(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="respond"):
    """An answer of the engine's own; without ``content_type`` it has no body."""

    status: int
    content_type: str = ""
    body: str = ""


class Close(msgspec.Struct, frozen=True, tag="close"):
    """The connection ends without an answer."""


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """A new connection gets no answer at all."""


class Allow(msgspec.Struct, frozen=True, tag="allow"):
    """No further security rule is looked at."""


class Limit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="limit"):
    """``then`` for what exceeds ``count`` + ``burst`` requests in ``period_s`` seconds, counted by each engine for itself:
    of each client, of each path, of both, of each value of a ``header`` or ``cookie`` (whoever sends none is not counted), or of
    all together. With ``failed`` those are counted that were answered with an error; with ``strangers`` requests, but whoever has
    proved to be well-behaved has no limit, and whoever has not a lower one. None: only counted."""

    count: int
    period_s: int = 1
    burst: int = 0
    by_client: bool = False
    by_path: bool = False
    header: str = ""
    cookie: str = ""
    failed: bool = False
    strangers: bool = False
    then: Redirect | Respond | Close | Drop | None = None
    punishes: bool = False
    """Of connections, ``by_client``: who exceeds it twice over gets only a fraction of it for a while."""


class Switch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="switch"):
    """The request goes to this pool, or group of pools, unless a rule before has chosen. ``server``: the one of the pool, by
    name, as long as it is up."""

    pool: str = ""
    group: str = ""
    server: str = ""


Action = Redirect | Rewrite | Location | Header | Respond | Close | Drop | Allow | Limit | Switch
CONNECTION, ADMISSION, SECURITY, REQUEST, RESPONSE = "connection", "admission", "security", "request", "response"
SELECTION = "selection"


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """The value of the first of ``pairs`` (key, value) of which ``test``, having the key for its value, holds."""

    test: Test
    pairs: tuple[tuple[str, str], ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``actions`` if all ``tests`` hold. ``phase``: connection (of clients and ports only, to allow, close, drop or limit),
    admission (limits on the connections that these let through), security, request, selection (of clients and ports only,
    to switch; of TCP, too) or response. The rules of a phase go in their order; a redirect, an answer or a closed
    connection ends it."""

    name: str
    phase: str
    tests: tuple[Test, ...] = ()
    actions: tuple[Action, ...] = ()
    lookup: Lookup | None = None
    """Of requests only."""
    log: bool = False
    """Requests that fit are logged. Not of connections and selections."""


class Cache(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an engine keeps of servers' answers, for itself. Answers that say they must not be kept are not."""

    megabytes: int
    object_bytes_max: int
    object_bytes_min: int = 0
    default_s: int = 600
    """For answers that may be kept and do not say how long."""
    unsaid: bool = False
    """Also answers that say nothing of being kept."""
    queries: bool = False
    """Also requests with a query."""
    never: tuple[Test, ...] = ()
    """Not for requests of which one of these holds."""
    types: tuple[str, ...] = ()
    """Content types that are kept, ``text/html`` or ``image/*``; () = all."""
    other_types: tuple[str, ...] = ()
    """Content types that are not."""
    ignores_clients: bool = False
    """What clients' requests say of caching counts for nothing; servers don't hear of it either."""
    age: bool = True
    date: bool = True
    tells: bool = True
    """``X-Cache: HIT``."""


class TrueClient(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A client's address is what ``header`` says at ``position``, from 1, negative from its end; where it says nothing, the
    connection's."""

    header: str = "X-Forwarded-For"
    position: int = 1


class Compressing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether clients get compressed answers for whom all ``tests`` hold."""

    tests: tuple[Test, ...] = ()
    compresses: bool = True


REWRITTEN_OCTETS_MAX, REWRITTEN_PAIRS_MAX = 500, 16
"""Of each text that is searched for or put in its place (a buffer has room for one at a time), and how many can be."""


class Rewriting(msgspec.Struct, frozen=True, kw_only=True):
    """In bodies of servers' answers each text that is the first of a pair becomes the second: all that the server sent, and
    nothing that was put there. Of two at one place the longer counts. Case matters."""

    pairs: tuple[tuple[str, str], ...]
    types: tuple[str, ...]
    """Of content, ``text/html`` or ``text/*``: others stay as they are, and so does what the server has compressed."""


RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
TOKEN_ALGORITHMS = (*RSA_ALGORITHMS, "ES256", "ES384", "ES512")
"""RFC 7518, 3.1."""
TOKEN_KEYS_MAX = 16
KEY_ID = re.compile(r"[ -~]{0,200}")
PUBLIC_KEY = re.compile(r"-----BEGIN PUBLIC KEY-----\n((?:[A-Za-z0-9+/=]{1,64}\n){1,40})-----END PUBLIC KEY-----\n")
PARAMETER = re.compile(r"[A-Za-z0-9_.~-]{1,100}")
"""Of a query."""


class TokenKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A public key in PEM, and the algorithms that it proves signatures of. ``id``: what tokens call it (``kid``); "" = nothing."""

    pem: str
    algorithms: tuple[str, ...]
    id: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests of which all ``tests`` hold are asked for a token."""

    tests: tuple[Test, ...] = ()
    asked: bool = True


CLAIM = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")
"""The name of one that is looked at."""


class Claim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a good token says by this name fits one of ``values``, or with ``negated`` none. ``how`` as of a `Test`, of texts, where
    case matters, or ``number`` and ``truth`` (``true``, ``false``). ``optional``: one that is not there will do."""

    name: str
    how: str = "exists"
    values: tuple[str, ...] = ()
    negated: bool = False
    optional: bool = False


class Permission(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes of a request with a good token of which all ``tests`` and ``claims`` hold; None = it gets in."""

    tests: tuple[Test, ...] = ()
    claims: tuple[Claim, ...] = ()
    then: Respond | Close | None = None


class Bearer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests bring a JSON web token (RFC 7519) of ``issuer`` for ``audience`` that has not ended, signed with one of ``keys``;
    others are answered 401."""

    issuer: str
    audience: str
    keys: tuple[TokenKey, ...] = ()
    parameter: str = ""
    """Of the query, that has the token; "" = the header Authorization (RFC 6750, 2.1)."""
    asked: tuple[Asked, ...] = ()
    """The first that fits decides; where none does a token is asked for."""
    permissions: tuple[Permission, ...] = ()
    """The first that fits decides about a good token; where none does the request gets in."""


class ErrorPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What clients get in place of an error that the engine answers with: a body, or a redirect."""

    statuses: tuple[int, ...]
    content_type: str = "text/html"
    body: str = ""
    redirect: str = ""


ERRORS = (400, 401, 403, 404, 405, 407, 408, 410, 413, 421, 422, 425, 429, 500, 501, 502, 503, 504)
"""That engines answer with, and can have pages for."""
PAGE_OCTETS_MAX = 12_000
"""With its header a page must fit HAProxy's buffer."""


class Http(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an HTTP application profile asks for, beside rules."""

    forwarded_for: str = "X-Forwarded-For"
    """The header that tells servers the client's address; "" = none."""
    forwarded_for_update: str = "replace"
    """What becomes of such headers of the client: ``replace``, ``append`` (one header, the client's address at its end) or
    ``add`` (another header behind them)."""
    forwarded_proto: bool = False
    true_client: TrueClient | None = None
    fingerprints: bool = False
    """What TLS clients begin with is known to conditions (``hello``)."""
    checks_name: bool = False
    """A request is for the host that its TLS client named (RFC 6066), if it named one."""
    to_https: bool = False
    """Requests without TLS are redirected to the TLS port."""
    hsts_s: int = 0
    """``max-age`` of Strict-Transport-Security; 0 = no such header."""
    hsts_subdomains: bool = True
    secure_cookies: bool = False
    http_only_cookies: bool = False
    https_redirects: bool = False
    """Redirects of servers to http: go to https: instead, on TLS ports."""
    body_kb_max: int = 0
    """Of what a request says it has; 0 = no limit."""
    head_timeout_ms: int = 10_000
    body_timeout_ms: int = 30_000
    """For a body that is waited for."""
    waits_for_body: bool = False
    """Servers get a POST when its body is there, as far as a buffer holds it."""
    continues: bool = False
    """The engine answers ``Expect: 100-continue`` (RFC 9110, 10.1.1)."""
    dots_in_names: bool = True
    """Whether headers with a dot in their name count."""
    accel_headers: bool = True
    """Whether clients get headers ``X-Accel-...`` of servers."""
    keepalive_header: bool = False
    """Clients are told how long connections may be idle."""
    keepalive_of_server: bool = False
    """By what the server says of it, where it does."""
    requests_max: int = 0
    """On one HTTP/1 connection; 0 = no limit."""
    streams_max: int = 0
    """At a time on one HTTP/2 connection; 0 = HAProxy's own."""
    window_kb: int = 0
    """Of a body that HTTP/2 clients may send unasked; 0 = HAProxy's own."""
    header_kb_max: int = 0
    """Of one header of a request; 0 = as the head."""
    head_kb_max: int = 0
    """Of a request's head; 0 = what HAProxy's buffer holds."""
    response_head_kb_max: int = 0
    headers_max: int = 0
    """In a head; 0 = HAProxy's own limit."""
    reuse: bool = True
    """Whether clients' requests share connections to servers."""
    websockets: bool = True
    acme: str = ""
    """Thumbprint (RFC 7638) of the account that proves by HTTP-01 (RFC 8555, 8.3) that the service's names are its own."""
    forbidden: tuple[str, ...] = ()
    """Headers: the connection of who sends one ends."""
    client_headers: tuple[Header, ...] = ()
    """What servers are told of the client's certificate and connection; replaces what the client says in these headers."""
    compress: tuple[str, ...] = ()
    """Content types that are compressed when the client takes it; () = none."""
    compress_alone: bool = True
    """Servers are not to."""
    compress_for: tuple[Compressing, ...] | None = None
    """The first that fits a client decides, and none is no; None = for all clients."""
    server_host: str = ""
    """What servers are told instead of the client's host; in their redirects and cookies clients get their own back."""
    cache: Cache | None = None
    rewriting: Rewriting | None = None
    bearer: Bearer | None = None
    errors: tuple[ErrorPage, ...] = ()
    """The first that has a status is its page."""
