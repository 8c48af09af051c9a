"""``ngscale ids``: which rows a token sequence looks up, and where two policies disagree.

``run`` makes the record, ``lookups`` compares policies position by position, ``vector_files``
checks and writes files of vectors, ``summary`` renders.
"""
