"""Hashes of a spec, and scheme names on the command line -> schemes."""

from collections.abc import Sequence

from ngscale.errors import UsageError
from ngscale.hashing.byte_hashes import Crc32, Ideal, Murmur3
from ngscale.hashing.longcat import Polynomial
from ngscale.hashing.multiply_xor import MultiplyXor
from ngscale.hashing.scheme import Scheme
from ngscale.hashing.wrapping import WrappingPolynomial
from ngscale.spec import Hash, XorHash

SCHEMES = ("longcat", "multiply-xor", "crc32", "murmur3", "ideal")


def gram_scheme(ngram_hash: Hash, table: int = 0) -> Polynomial | WrappingPolynomial | MultiplyXor:
    """How a spec's hash turns complete n-grams into rows of its table ``i``."""
    if isinstance(ngram_hash, XorHash):
        wrapping = ngram_hash.arithmetic == "int32"
        return MultiplyXor(multipliers=ngram_hash.multipliers, wrapping=wrapping)
    base = ngram_hash.base_of(table)
    if ngram_hash.arithmetic == "exact" and not ngram_hash.oldest_first:
        return Polynomial(base=base)
    assert ngram_hash.arithmetic != "exact"  # refused by the spec
    return WrappingPolynomial(
        base=base, width=ngram_hash.arithmetic, oldest_first=ngram_hash.oldest_first
    )


def make_scheme(
    name: str,
    *,
    vocab_size: int,
    base: int | None = None,
    multipliers: Sequence[int] | None = None,
    seed: int | None = None,
) -> Scheme:
    """The scheme called ``name``; an option it does not have is refused, not ignored.

    Raises:
        UsageError: unknown name, a missing option, or one that does not belong to the scheme.
        SpecError: the scheme's own refusal of a value.
    """
    given = {"--base": base, "--multipliers": multipliers, "--seed": seed}
    takes = {
        "longcat": "--base",
        "multiply-xor": "--multipliers",
        "murmur3": "--seed",
        "ideal": "--seed",
        "crc32": None,
    }
    if name not in takes:
        raise UsageError(f"--scheme {name}: takes one of {', '.join(SCHEMES)}")
    for option, value in given.items():
        if value is not None and option != takes[name]:
            raise UsageError(f"{option}: the scheme {name} has none")
    if name == "longcat":
        return Polynomial(base=vocab_size if base is None else base)
    if name == "multiply-xor":
        if not multipliers:
            raise UsageError("--scheme multiply-xor: needs --multipliers, one odd number a place")
        return MultiplyXor(multipliers=tuple(multipliers))
    if name == "murmur3":
        return Murmur3(seed=seed or 0)
    if name == "ideal":
        return Ideal(seed=seed or 0)
    return Crc32()
