"""``ngscale ids``: which rows a token sequence looks up, and where two policies disagree.

``run`` makes the records, ``lookups`` compares policies position by position, ``summary`` renders.
"""
