"""The guard: the small process that answers for an engine's VIPs, and falls silent when it must.

``python -m shoal.engine.guard guard.json``. It runs the pure machine of `shoal.ownership` on a loop of its own, with
real-time priority where allowed, and goes on without the agent and without the controller.
"""

ENGINE_PORT = 7946
"""UDP and TCP port of the guards on the data network."""
