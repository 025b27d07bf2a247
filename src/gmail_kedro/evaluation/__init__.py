"""What is measured on: benchmarks, splits, protocols, leakage."""
