"""Signing in by somebody else's word: directories (LDAP) and identity providers (OpenID Connect).

::

    directory  LDAP: is the password right, and which groups is the person in
    provider   OpenID Connect: the code flow, and what the identity token says
    people     from groups to roles; the User that is kept of whoever came in
    methods    which of them the system configuration names
"""
