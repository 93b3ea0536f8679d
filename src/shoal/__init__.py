"""Shoal: a software-defined load balancer with elastic high availability.

Rooms, top to bottom (imports point down only; ``tests/unit/test_architecture.py`` enforces it)::

    main                       the ``shoal`` command
    shell, simulator, lab      the operator's shell; virtual time; a network to try things in
    api                        the REST face
    controller                 caches, reconcilers, engine sessions
    engine                     what runs on an engine
    clouds                     where engines come from
    placement, ownership       the pure core
    store, wire, objects       state, messages, what can be configured
    errors                     one exception tree
"""

__version__ = "0.1.0"
API_VERSION = "22.1.3"
"""The version of the object model that Shoal speaks (reported at login and in ``AVI_API_VERSION``)."""
