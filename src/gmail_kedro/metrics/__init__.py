"""Pure scorers: embeddings, labels or texts in, numbers out. No I/O, no models, nothing else of the house.

Scores are in percent, as in the paper's tables. Every result keeps its per-query values, so that
``statistics`` can put an interval around any of them.
"""
