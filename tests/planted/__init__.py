"""Bugs planted in the core on purpose: the suite must find every one of them. See `__main__`."""
