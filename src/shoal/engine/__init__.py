"""What runs on an engine: the agent (this package), its HAProxy, and the guard that owns the VIPs."""
