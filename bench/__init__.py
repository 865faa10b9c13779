"""Benchmarks: how near a sweep comes to the API's limit, and how its cost grows. `make bench` runs them all."""
