"""What really happened, in milliseconds.

::

    ring      the flight recorder: a bounded file of records that survives its writer
    frames    ARP and TCP frames as bytes
    watch     pure: what probes say of one VIP, and when that changes
    prober    the process that asks every VIP of a segment as a client would
    timeline  pure: records, findings, events and decisions in one order, with the first sign as zero
"""
