"""HAProxy on an engine: the configuration rendered from the desired state, the process, its runtime socket."""
