"""What can be configured: the object model as data (``schema/``), compiled at start-up to typed structs.

One truth: validation, REST, shell, console and docs all read it. ``load()`` gives the `Registry`.
"""

from shoal.objects.registry import Registry, load
from shoal.objects.types import Field, MessageType, ObjectType, Reference

__all__ = ["Field", "MessageType", "ObjectType", "Reference", "Registry", "load"]
