"""The benchmarks: one module for each row, `python -m benchmarks` runs them. See docs/benchmarks.md."""
