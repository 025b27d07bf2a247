"""Generated sets: what to make, the images that were made, and which real image each belongs to.

``plan`` lists the images to make, ``generate`` makes them into ``shards``, ``shard_images`` reads them by key,
``manifest`` records what is there and ``pairing`` joins it with the real images.
"""
