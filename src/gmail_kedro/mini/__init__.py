"""The embedded world: everything that lets the whole method run on a laptop without a download.

``world`` draws captioned scenes of handwritten digits and writes them in the files of the real corpora, ``pretraining``
trains the mini models on them, and ``weights/`` holds what it shipped. Nothing outside this room imports it but the
wiring: the rest of the package reads a corpus and finds weights by name, as it would anybody's.
"""
