"""Health monitors that the agent runs: those that HAProxy has no check for, or that ask for more than its checks can.

::

    runners     PURE. which monitors of a pool HAProxy runs, and which the agent
    checks      runs them at their pace, keeps the verdicts
    probe       one look at one server
    verdicts    tells HAProxy of the servers that are ill
    connection  TCP and TLS to a server, lines and bounded reading
    web, mail, files, directory, radius, sip, dns, script: what each kind asks
"""
