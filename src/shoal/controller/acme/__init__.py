"""Certificates from a certificate authority that speaks ACME (RFC 8555), proven by HTTP-01 on the service's own address.

::

    profile    the CertificateManagementProfiles that mean ACME, and what they say
    client     the protocol: account, order, proof, certificate
    renewals   which certificates are due, and what becomes of each
"""
