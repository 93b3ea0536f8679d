"""A configuration as one file: out (`export`), and in (`importing`), in the form of the vendor's ``export configuration``.

::

    sealing    secrets in the file, under a passphrase
    export     all objects, references by name
    reading    a file's objects, and which of them each reference means
    judging    one object: as it is, with a difference, or not
    given      its secrets, as far as the file has them
    importing  all of them, what would come of it, and the write
"""

from __future__ import annotations

META = "META"
"""The member that is no object type: whose file it is."""
PRODUCT = "Shoal"
"""Who has written a file, in its META."""
LEFT_OUT = {
    "serviceengine": "service engines are made by the controller they serve",
    "cluster": "it names the nodes of the controller itself",
    "backup": "it names a file that the controller itself keeps",
    "upgradestatusinfo": "it is the controller's own state",
}
"""Types that a file says nothing about, and why."""
