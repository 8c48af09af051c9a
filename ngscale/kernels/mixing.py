"""Hash schemes other than the polynomial: n-grams -> 32- or 64-bit hash -> row.

All take grams: uint32 [order, G], row s = token s places back; modulus: uint64; out: uint32 [G].
Arithmetic wraps at the width the scheme defines; every literal is cast, since Numba would widen
a mixed expression to int64.
"""

import numpy as np
from numba import njit

_U32 = np.uint32
_U64 = np.uint64


@njit(cache=True, nogil=True)
def multiply_xor_rows(grams, multipliers, modulus, out):
    """multipliers: uint64 [order], one per place; products must stay below 2**63."""
    order, num_grams = grams.shape
    for g in range(num_grams):
        mixed = _U64(0)
        for s in range(order):
            mixed ^= _U64(grams[s, g]) * multipliers[s]
        out[g] = mixed % modulus


@njit(cache=True, nogil=True)
def int32_xor_rows(grams, multipliers, modulus, out):
    """multipliers: uint32 [order]; products wrap to int32, the residue is not negative."""
    order, num_grams = grams.shape
    wide = np.int64(modulus)
    for g in range(num_grams):
        mixed = _U32(0)
        for s in range(order):
            mixed = _U32(mixed ^ _U32(grams[s, g] * multipliers[s]))
        out[g] = _signed_residue(np.int64(np.int32(mixed)), wide)


@njit(cache=True, nogil=True)
def uint32_polynomial_rows(grams, weights, modulus, out):
    """weights: uint32 [order], one per place; modulus: uint32; products and sum wrap."""
    order, num_grams = grams.shape
    for g in range(num_grams):
        total = _U32(0)
        for s in range(order):
            total = _U32(total + _U32(grams[s, g] * weights[s]))
        out[g] = total % modulus


@njit(cache=True, nogil=True)
def int64_polynomial_rows(grams, weights, modulus, out):
    """weights: int64 [order], one per place; modulus: int64; products and sum wrap."""
    order, num_grams = grams.shape
    for g in range(num_grams):
        total = np.int64(0)
        for s in range(order):
            total += np.int64(grams[s, g]) * weights[s]
        out[g] = _signed_residue(total, modulus)


@njit(cache=True, nogil=True)
def _signed_residue(value, modulus):
    """The residue in [0, modulus) of an int64 of either sign."""
    rest = value % modulus
    return rest + modulus if rest < 0 else rest


@njit(cache=True, nogil=True)
def crc32_rows(grams, table, modulus, out):
    """table: uint32 [256], the byte table of the reflected polynomial 0xEDB88320."""
    order, num_grams = grams.shape
    for g in range(num_grams):
        crc = _U32(0xFFFFFFFF)
        for back in range(order):
            token = grams[order - 1 - back, g]
            for shift in range(0, 32, 8):
                byte = (token >> _U32(shift)) & _U32(0xFF)
                crc = _U32((crc >> _U32(8)) ^ table[(crc ^ byte) & _U32(0xFF)])
        out[g] = _U64(crc ^ _U32(0xFFFFFFFF)) % modulus


@njit(cache=True, nogil=True)
def _rotate32(x, bits):
    return _U32(_U32(x << _U32(bits)) | (x >> _U32(32 - bits)))


@njit(cache=True, nogil=True)
def murmur3_rows(grams, seed, modulus, out):
    """seed: uint32; MurmurHash3_x86_32 over the tokens' little-endian bytes, oldest first."""
    order, num_grams = grams.shape
    for g in range(num_grams):
        h = _U32(seed)
        for back in range(order):
            k = _U32(grams[order - 1 - back, g] * _U32(0xCC9E2D51))
            k = _U32(_rotate32(k, 15) * _U32(0x1B873593))
            h = _rotate32(_U32(h ^ k), 13)
            h = _U32(_U32(h * _U32(5)) + _U32(0xE6546B64))
        h = _U32(h ^ _U32(4 * order))
        h = _U32(_U32(h ^ (h >> _U32(16))) * _U32(0x85EBCA6B))
        h = _U32(_U32(h ^ (h >> _U32(13))) * _U32(0xC2B2AE35))
        h = _U32(h ^ (h >> _U32(16)))
        out[g] = _U64(h) % modulus


@njit(cache=True, nogil=True)
def ideal_rows(grams, key, modulus, out):
    """key: uint64; a splitmix64 step per token, keyed, oldest first."""
    order, num_grams = grams.shape
    for g in range(num_grams):
        state = _U64(key)
        for back in range(order):
            state = _U64(state + _U64(0x9E3779B97F4A7C15))
            state = _U64(state ^ _U64(grams[order - 1 - back, g]))
            state = _U64((state ^ (state >> _U64(30))) * _U64(0xBF58476D1CE4E5B9))
            state = _U64((state ^ (state >> _U64(27))) * _U64(0x94D049BB133111EB))
            state = _U64(state ^ (state >> _U64(31)))
        out[g] = state % modulus
