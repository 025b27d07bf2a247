"""The only place that builds models: encoders, the student, generators, captioners, vision-language models.

A room for each kind. What all share is beside them: ``weight_sources`` (where weights are), ``strict_loading`` (do they
fit the name), ``fingerprints`` (what a model is made of, and the folders of what was trained) and ``inventory`` (every
name, and the check of a run's). Heavy libraries are imported inside the builders.
"""
