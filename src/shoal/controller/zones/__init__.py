"""DNS records of VIPs, published by dynamic update (RFC 2136) with TSIG (RFC 8945).

::

    wanted      which records there should be, and where. Pure.
    update      one change of one record set on a DNS server
    publisher   brings what is published in line with what is wanted, and tells how that went
"""
