"""Databases of what is known of addresses: where they are (GeoDB), and how they are spoken of (IPReputationDB).

::

    reading    a file that somebody uploads, made into rows (in a process of its own)
    uploads    from the request to a FileObject
    contents   rows of all files: kept in the store, in memory, and as lists for engines
    matching   what rules ask of them
"""
