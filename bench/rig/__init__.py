"""What the benchmarks share: a Shoal in a private host, contestants, load, the cost of processes, statistics."""
