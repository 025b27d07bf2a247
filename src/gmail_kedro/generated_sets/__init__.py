"""Tables and shards of the generated set: what to make, what was made, and which photograph it belongs to.

``plan`` lists the pictures to make, ``generate`` makes them into ``shards``, ``stored`` reads a finished set,
``manifest`` records what is there and ``pairing`` joins it with the photographs. ``keys`` names the pictures.
"""
