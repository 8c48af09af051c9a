"""What Numba cannot say: OR 64 bits into a byte array at any byte, in one access.

Without it a kernel sets one key per access, in a byte; with it a whole granule of neighbouring
keys. Which of the two happens is decided by the dtype of the masks, so that both exist side by
side, are compiled and cached apart, and can be compared in one process.
"""

import sys

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic, overload

UNALIGNED = sys.byteorder == "little" and not getattr(config, "DISABLE_JIT", False)
"""Whether ``or_bits`` of uint64 masks is one machine access (else use uint8 masks)."""

GRANULE_BITS = 57
"""Widest mask that still fits 64 bits after a shift of up to 7."""


def or_bits(table, at, bits, masks):
    """``table[at:] |= bits``, little-endian, as many bytes as one of ``masks`` has; the old bits.

    The plain twin: what runs with the JIT switched off. ``table``: uint8 [bytes]; ``at``: int64,
    in bounds; ``bits``: uint64, of which only the width of ``masks.dtype`` is used; ``masks``:
    uint64 or uint8 [any], read for its dtype only. Returns uint64.
    """
    size = masks.itemsize
    old = int.from_bytes(table[at : at + size].tobytes(), "little")
    new = old | int(bits) % 256**size
    table[at : at + size] = np.frombuffer(new.to_bytes(size, "little"), dtype=np.uint8)
    return np.uint64(old)


def _or_byte(table, at, bits, masks):  # pragma: no cover - compiled
    # An unsigned index: a signed one costs Numba's wrap-around test, 1.7x of the whole loop.
    where = np.uint64(at)
    old = np.uint64(table[where])
    table[where] = np.uint8(old | bits)
    return old


def _or_word(table, at, bits, masks):  # pragma: no cover - compiled
    return _or_unaligned(table, np.int64(at), np.uint64(bits))  # type: ignore[call-arg]


@overload(or_bits)
def _compile_or_bits(table, at, bits, masks):  # pragma: no cover - compiled
    return {types.uint8: _or_byte, types.uint64: _or_word}.get(masks.dtype)


@intrinsic
def _or_unaligned(typing_context, table, at, bits):  # pragma: no cover - compiled
    def build(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        pointer = builder.bitcast(place, ir.IntType(64).as_pointer())
        old = builder.load(pointer)
        old.align = 1
        builder.store(builder.or_(old, arguments[2]), pointer).align = 1
        return old

    return types.uint64(table, types.int64, types.uint64), build
