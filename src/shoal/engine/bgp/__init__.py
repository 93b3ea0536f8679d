"""BGP on an engine: BIRD, which announces the VIPs whose routes the guard has put into the kernel.

::

    config    what BIRD is to do, as its configuration     control   its command socket
    speaker   the process, and what it is told
"""
