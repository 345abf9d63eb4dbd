"""Benchmarks: `make bench`, or `make bench ONLY=group`."""
