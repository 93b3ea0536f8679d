"""``shoal drill``: a failover on purpose, foretold, guarded, watched, undone, and judged by what was foretold.

::

    forecast  what should happen             guards  when it is not done
    watch     who answers, every 5 ms        keeper  the fault, undone by a process of its own
    run       one drill from end to end      score   what came of it
    command   what people see
"""
