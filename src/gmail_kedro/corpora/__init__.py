"""Readers of captioned corpora and benchmarks on disk, and the checks that their pictures can be used."""
