"""The only place that builds models: encoders, generators, language models, adapters, captioners.

Heavy libraries are imported inside the builders. An unknown name is an error that lists the known ones;
absent weights are an error that says where they were looked for, never random weights.
"""
