"""``ngscale collisions``: how the hash wastes table rows on a user's own text.

grid (which sizes) -> sweep (measure each) -> summary (record and report); ``metrics`` says what
is measured, ``expected`` what an ideal hash would give.
"""
