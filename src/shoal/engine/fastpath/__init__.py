"""Fast paths: UDP ports, and TCP ports that want no proxy. The kernel carries them by NAT and conntrack.

::

    plan        PURE. which servers take new flows and which keep theirs, their marks
    buckets     PURE. the servers' shares of new flows
    rules       PURE. the plans as nftables rules, by NAT; parts: what they share with
    direct      PURE. those of servers that answer clients themselves; kept: the maps of their flows
    table       puts the rules into the kernel, reads their counters
    conntrack   deletes and counts flows by their mark; netfilter: the netlink below it
    carrier     the owner of all of it, for the agent
"""
