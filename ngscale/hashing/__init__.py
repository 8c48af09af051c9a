"""How an n-gram becomes a row id; nothing else in the package computes one.

Per scheme: an exact-integer definition with its source, a Numba twin over arrays, and a torch
twin over tensors (``torch_twin.py``). Tests hold the twins to the definition.
"""
