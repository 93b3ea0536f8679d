"""The configurations of the contestants, as a careful administrator writes them by hand; one core each."""

from __future__ import annotations

FIRST_PORT = 10_000
"""Of the services that are only there to be many."""
TLS_PORT, TCP_PORT, POLICIES_PORT, PERSISTENCE_PORT, HTTP2_PORT = 443, 9000, 8100, 8200, 8443
RULES = 100
"""Of the service with policies: by the beginning of a path, of which none is asked for, so that each is looked at."""

HAPROXY_HEAD = """global
    maxconn 4000
    nbthread 1
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""


def backend(address: str, pem: str, name: str = "s1") -> str:
    """A server that answers from memory with its name and the address that asked; port 80, and TLS on 443."""
    return f"""{HAPROXY_HEAD}
frontend web
    bind {address}:80
    bind {address}:81
    bind {address}:{TLS_PORT} ssl crt {pem} alpn http/1.1
    bind {address}:{HTTP2_PORT} ssl crt {pem} alpn h2,http/1.1
    http-request return status 200 content-type text/plain lf-string "{name} %[src] hello from the bench"
"""


def haproxy(address: str, server: str, pem: str, services: int) -> str:
    """``services`` virtual services over HTTP (the first on port 80); one each over TLS, over HTTP/2, with policies, with
    clients kept to their server, and one that proxies TCP."""
    ports = [80, *range(FIRST_PORT, FIRST_PORT + services - 1)]
    parts = [HAPROXY_HEAD]
    for port in ports:
        parts.append(_haproxy_http(f"web{port}", f"{address}:{port}", server))
    parts.append(_haproxy_http("tls", f"{address}:{TLS_PORT} ssl crt {pem} alpn http/1.1", server))
    parts.append(_haproxy_http("http2", f"{address}:{HTTP2_PORT} ssl crt {pem} alpn h2,http/1.1", server))
    rules = "".join(f"    http-request set-header X-Rule {n} if {{ path_beg {rule(n)} }}\n" for n in range(RULES))
    parts.append(_haproxy_http("policies", f"{address}:{POLICIES_PORT}", server, rules))
    kept = "    stick-table type ip size 100k expire 5m\n    stick on src\n"
    parts.append(_haproxy_http("persistence", f"{address}:{PERSISTENCE_PORT}", server, more=kept))
    parts.append(f"""frontend tcp
    mode tcp
    bind {address}:{TCP_PORT}
    default_backend tcp
backend tcp
    mode tcp
    balance roundrobin
    server s1 {server}:80
""")
    return "\n".join(parts)


def rule(number: int) -> str:
    """The beginning of a path that a rule is for."""
    return f"/not-asked-for-{number}/"


def _haproxy_http(name: str, bind: str, server: str, rules: str = "", more: str = "") -> str:
    return f"""frontend {name}
    bind {bind}
{rules}    default_backend {name}
backend {name}
    balance roundrobin
    option forwardfor
{more}    server s1 {server}:80
"""


def nginx(address: str, server: str, pem: str, services: int, folder: str) -> str:
    """The same with nginx. It keeps its connections to the server, as its manual advises."""
    ports = [80, *range(FIRST_PORT, FIRST_PORT + services - 1)]
    http = "\n".join(_nginx_http(f"web{port}", f"{address}:{port}", server) for port in ports)
    tls = f"ssl_certificate {pem}; ssl_certificate_key {pem};"
    places = " ".join(
        f"location {rule(n)} {{ proxy_set_header X-Rule {n}; proxy_pass http://policies; }}" for n in range(RULES)
    )
    return f"""load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
worker_rlimit_nofile 10000;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
{_nginx_http("tls", f"{address}:{TLS_PORT} ssl", server, tls)}
{_nginx_http("http2", f"{address}:{HTTP2_PORT} ssl http2", server, tls)}
{_nginx_http("policies", f"{address}:{POLICIES_PORT}", server, places)}
{_nginx_http("persistence", f"{address}:{PERSISTENCE_PORT}", server, kept="ip_hash;")}
}}
stream {{
    server {{ listen {address}:{TCP_PORT}; proxy_pass {server}:80; }}
}}
"""


def _nginx_http(name: str, listen: str, server: str, more: str = "", kept: str = "") -> str:
    return f"""    upstream {name} {{ {kept} server {server}:80; keepalive 64; keepalive_requests 1000000; }}
    server {{ listen {listen}; {more} location / {{ proxy_pass http://{name}; }} }}"""
