"""Alerts: rules on events and figures, and what they set off.

::

    rules     does an AlertConfig's rule hold for this event, or for these figures
    watch     the alerts that are raised: thresholds, throttling, to whom
    messages  one alert in the words of a mail, a syslog line, a webhook's body
    senders   mail, syslog, webhooks and traps, out of the controller
    traps     one alert as an SNMP trap
"""
