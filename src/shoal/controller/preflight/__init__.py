"""Before go-live: what a network lets engines do, tried by real ones, and which mode follows.

::

    steps    what two engines say and hear, in order      judge    what that means: the checks, the mode
    asking   which engines, which addresses; the answer
"""
