"""The paper in tensors: its objective, what goes with it, and the diagnostics of the gap.

Tensors in, tensors out: no models, no files, no devices, no logging. ``alignment`` is Eq. 1 with the moments that Eq. 1
cannot see, ``realign`` the alignment without training. ``gap`` is where the diagnostics start; ``probe``,
``neighbours``, ``spectrum`` and ``frame`` are its sides.
"""
