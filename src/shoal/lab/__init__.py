"""A network of one's own to try things in: backends, clients, probes and faults. Used by the demo, the bench, tests."""
