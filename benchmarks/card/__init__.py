"""The steps of `benchmarks/gpu.py`, a module each: every step runs in a process of its own."""
