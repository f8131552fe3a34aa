"""The parts of benchmarks/suite.py: one line of docs/performance.md's table of extraction each."""
