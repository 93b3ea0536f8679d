"""One change of one record set on a DNS server, by dnspython. What others have put there is never changed."""

from __future__ import annotations

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import dns.update

from .wanted import Provider, RecordSet

WITHIN_S = 5.0


class NotUpdated(Exception):
    """Says why, in words without a full stop."""


class Away(NotUpdated):
    """The DNS server does not answer."""


class Taken(NotUpdated):
    """The name has records that are not ours."""


async def publish(provider: Provider, secret: str, record: RecordSet, before: RecordSet | None) -> None:
    """Make the record set this; ``before``: what we have published of it. Raises NotUpdated.

    A name that is new to us must not have such records yet; or those that it has are the ones wanted, put there by an earlier
    try of which the answer was lost.
    """
    change = _update(provider, secret, record)
    if before is None:
        change.absent(record.name + ".", record.type)
        if record.type != "CNAME":
            change.absent(record.name + ".", "CNAME")
    else:
        for value in before.values:
            change.delete(record.name + ".", record.type, value)
    _add(change, record)
    code = await _send(provider, change)
    if before is None and code in (dns.rcode.YXRRSET, dns.rcode.YXDOMAIN):
        same = _update(provider, secret, record)
        same.present(record.name + ".", record.type, *record.values)
        if await _send(provider, same) != dns.rcode.NOERROR:
            raise Taken(f"{record.name} has {record.type} records of somebody else")
    elif code != dns.rcode.NOERROR:
        raise NotUpdated(f"{provider.server} refuses: {dns.rcode.to_text(code)}")


async def withdraw(provider: Provider, secret: str, record: RecordSet) -> None:
    """Delete what we have published; nothing if it is gone. Raises NotUpdated."""
    change = _update(provider, secret, record)
    for value in record.values:
        change.delete(record.name + ".", record.type, value)
    code = await _send(provider, change)
    if code != dns.rcode.NOERROR:
        raise NotUpdated(f"{provider.server} refuses: {dns.rcode.to_text(code)}")


def _update(provider: Provider, secret: str, record: RecordSet) -> dns.update.UpdateMessage:
    ring = dns.tsigkeyring.from_text({provider.key_name: secret}) if provider.key_name else None
    return dns.update.UpdateMessage(
        record.zone + ".",
        keyring=ring,
        keyname=dns.name.from_text(provider.key_name) if ring is not None else None,
        keyalgorithm=provider.algorithm,
    )


def _add(change: dns.update.UpdateMessage, record: RecordSet) -> None:
    for value in record.values:
        change.add(record.name + ".", record.ttl_s, record.type, value)


async def _send(provider: Provider, change: dns.update.UpdateMessage) -> dns.rcode.Rcode:
    """The answer's code. Raises NotUpdated."""
    try:
        answer = await dns.asyncquery.tcp(change, provider.server, timeout=WITHIN_S, port=provider.port)
    except dns.exception.Timeout:
        raise Away(f"{provider.server} does not answer within {WITHIN_S:.0f} s") from None
    except dns.tsig.PeerError as error:
        raise NotUpdated(f"{provider.server} refuses the key {provider.key_name}: {type(error).__name__}") from None
    except OSError as error:
        raise Away(f"{provider.server} can't be asked: {error}"[:200]) from None
    except Exception as error:  # what a DNS server answers must not end the controller
        raise NotUpdated(f"{provider.server} can't be asked: {error or type(error).__name__}"[:200]) from None
    return answer.rcode()
