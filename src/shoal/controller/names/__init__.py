"""Servers that pools know by name: looked up, and looked up again.

::

    members    which servers of a pool document are names, and the document with their addresses in place. Pure.
    lookup     one question to DNS servers
    resolver   which DNS servers are asked, and how long an answer counts
    names      keeps the answers, tells of changes
"""
