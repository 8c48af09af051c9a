"""``ngscale cache``: what a cache of table rows would hit, and which tier of memory feeds the rest.

``trace`` (which rows, in which order) -> ``measure``: ``reuse`` (LRU, every size in one pass),
``clock``, ``static_hot``; ``sampling`` -> ``feeding`` (tiers), ``sharding`` -> ``run``,
``summary``.
"""
