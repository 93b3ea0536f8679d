"""Packet capture on an engine: a child process reads the packets, the agent passes them on."""
