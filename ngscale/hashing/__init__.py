"""How an n-gram becomes a row id; nothing else in the package computes one.

Per scheme: an exact-integer definition with its source and a Numba twin over complete n-grams. Over
token sequences and their policies: ``definition.py``, the Numba twin ``stream.py`` and, of tensors
on any device, ``torch_twin.py``. Tests hold the twins to the definitions.
"""
