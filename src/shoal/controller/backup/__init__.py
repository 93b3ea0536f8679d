"""Backups: everything that makes a Shoal what it is, in one sealed file.

::

    sealed     the file's form: a passphrase, pieces that can't be changed, swapped or cut off
    contents   what is in it: all records of the store, and the keys beside it
    kept       backups that the controller makes and keeps by a BackupConfiguration
    restoring  a file becomes a data directory, whole or not at all
    replacing  and takes the place of one in use
"""
