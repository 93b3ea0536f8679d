"""Packets of a virtual service from all its engines, in one file in order of time.

::

    wish      what was asked for         endpoints  addresses and ports of its two sides
    merge     the engines' packets as one           file  pcapng and pcap
    captures  the captures that run
"""
