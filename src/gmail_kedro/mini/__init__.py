"""The mini world: real scanned digits, composed into captioned scenes small enough for a laptop.

``scans`` loads the handwriting, ``scenes`` draws it, ``captions`` and ``questions`` describe it,
``corpus`` writes it in the on-disk formats of the real corpora. The ``pretrain_*`` modules train
the mini models from it and ``weights/`` holds what they shipped.
"""
