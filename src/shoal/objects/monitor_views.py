"""Typed views of health monitors: the fields that act."""

from __future__ import annotations

import msgspec


class Authentication(msgspec.Struct, frozen=True, kw_only=True):
    username: str = ""
    password: str = ""


class SslAttributes(msgspec.Struct, frozen=True, kw_only=True):
    ssl_profile_ref: str = ""
    pki_profile_ref: str = ""
    ssl_key_and_certificate_ref: str = ""
    server_name: str = ""


class Http(msgspec.Struct, frozen=True, kw_only=True):
    http_request: str = "GET / HTTP/1.0"
    http_request_body: str = ""
    exact_http_request: bool = False
    http_response: str = ""
    http_response_code: tuple[str, ...] = ()
    maintenance_code: tuple[int, ...] = ()
    maintenance_response: str = ""
    response_size: int = 0
    auth_type: str = ""
    ssl_attributes: SslAttributes | None = None


class Tcp(msgspec.Struct, frozen=True, kw_only=True):
    tcp_request: str = ""
    tcp_response: str = ""
    maintenance_response: str = ""


class Udp(msgspec.Struct, frozen=True, kw_only=True):
    udp_request: str = ""
    udp_response: str = ""
    maintenance_response: str = ""


class Dns(msgspec.Struct, frozen=True, kw_only=True):
    query_name: str
    record_type: str = "DNS_RECORD_A"
    qtype: str = "DNS_QUERY_TYPE"
    rcode: str = "RCODE_NO_ERROR"
    response_string: str = ""


class External(msgspec.Struct, frozen=True, kw_only=True):
    command_code: str
    command_parameters: str = ""
    command_variables: str = ""


class Smtp(msgspec.Struct, frozen=True, kw_only=True):
    domainname: str = ""
    sender_id: str = ""
    recipients_ids: tuple[str, ...] = ()
    mail_data: str = ""
    ssl_attributes: SslAttributes | None = None


class Pop3(msgspec.Struct, frozen=True, kw_only=True):
    ssl_attributes: SslAttributes | None = None


class Imap(msgspec.Struct, frozen=True, kw_only=True):
    folder: str = ""
    ssl_attributes: SslAttributes | None = None


class Ftp(msgspec.Struct, frozen=True, kw_only=True):
    filename: str
    mode: str = "FTP_PASSIVE_MODE"
    ssl_attributes: SslAttributes | None = None


class Ldap(msgspec.Struct, frozen=True, kw_only=True):
    base_dn: str
    filter: str = ""
    scope: str = ""
    attributes: str = ""
    ssl_attributes: SslAttributes | None = None


class Radius(msgspec.Struct, frozen=True, kw_only=True):
    username: str
    password: str
    shared_secret: str


class Sip(msgspec.Struct, frozen=True, kw_only=True):
    sip_monitor_transport: str = "SIP_UDP_PROTO"
    sip_response: str = "SIP/2.0"


class HealthMonitor(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    type: str
    send_interval: int = 10
    receive_timeout: int = 4
    successful_checks: int = 2
    failed_checks: int = 2
    monitor_port: int = 0
    allow_duplicate_monitors: bool = False
    disable_quickstart: bool = False
    authentication: Authentication | None = None
    http_monitor: Http | None = None
    https_monitor: Http | None = None
    tcp_monitor: Tcp | None = None
    udp_monitor: Udp | None = None
    dns_monitor: Dns | None = None
    external_monitor: External | None = None
    smtp_monitor: Smtp | None = None
    smtps_monitor: Smtp | None = None
    pop3_monitor: Pop3 | None = None
    pop3s_monitor: Pop3 | None = None
    imap_monitor: Imap | None = None
    imaps_monitor: Imap | None = None
    ftp_monitor: Ftp | None = None
    ftps_monitor: Ftp | None = None
    ldap_monitor: Ldap | None = None
    ldaps_monitor: Ldap | None = None
    radius_monitor: Radius | None = None
    sip_monitor: Sip | None = None
