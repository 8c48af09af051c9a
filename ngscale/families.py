"""The spec of each published family from its numbers, wherever they were read. Pure, stdlib only.

``ngram_config`` reads the numbers from a config.json, ``vectors`` from a file of test vectors.
"""

from dataclasses import replace

from ngscale.multipliers import engram_multipliers, qwen_multipliers
from ngscale.policy import Policy
from ngscale.row_counts import consecutive_primes
from ngscale.spec import NgramSpec, PolynomialHash, XorHash, order_major


def force_prime(spec: NgramSpec, size: float) -> NgramSpec:
    """Nanbeige4.2's ``ngram_mod_force_prime``: prime sizes from ``size`` on, and a prime base.

    Raises:
        SpecError: a size is out of range.
    """
    (base,) = consecutive_primes(spec.vocab_size, 1)
    return replace(
        spec,
        hash=PolynomialHash(base=base),
        table_rows=consecutive_primes(size, spec.num_tables),
        row_family="consecutive_primes",
    )


def over_encoding_spec(
    *, vocab_size: int, table_orders: tuple[int, ...], table_rows: tuple[int, ...]
) -> NgramSpec:
    """Over-Encoding (arXiv:2501.16975; mojo_opset): any orders, any sizes, nothing resets.

    Raises:
        SpecError: the numbers contradict each other, or the arithmetic could overflow.
    """
    return NgramSpec(
        hash=PolynomialHash(base=vocab_size),
        vocab_size=vocab_size,
        table_orders=table_orders,
        table_rows=table_rows,
        policy=Policy(documents="none"),
        fusion="concat",
        word_scale="none",
    )


def engram_spec(
    *,
    layer: int,
    seed: int,
    compressed_vocab: int,
    max_order: int,
    heads: int,
    table_rows: tuple[int, ...],
    fill: int | None,
    released: bool,
    row_width: int | None = None,
) -> NgramSpec:
    """Engram's tables of one layer, of DeepSeek-V4.1 (``released``) or of the demo.

    Raises:
        SpecError: the numbers contradict each other, or the arithmetic could overflow.
    """
    return NgramSpec(
        hash=XorHash(multipliers=engram_multipliers(seed, layer, compressed_vocab, max_order)),
        vocab_size=compressed_vocab,
        table_orders=order_major(max_order, heads),
        table_rows=table_rows,
        row_family="prime_pool",
        policy=Policy(fill=fill, documents="none", dead_tokens="block" if released else "ordinary"),
        compressed_vocab=compressed_vocab,
        row_width=row_width,
        fusion="gated",
        word_scale="none",
        layers=(layer,),
    )


def qwen_spec(
    *,
    ple_layer: int,
    seed: int,
    vocab_size: int,
    max_order: int,
    heads: int,
    table_rows: tuple[int, ...],
    boundary: int,
) -> NgramSpec:
    """Qwen3.8's tables of its PLE layer number ``ple_layer``, which need not be a layer's index.

    Raises:
        SpecError: the numbers contradict each other, or the arithmetic could overflow.
    """
    return NgramSpec(
        hash=XorHash(multipliers=qwen_multipliers(seed, ple_layer, vocab_size, max_order)),
        vocab_size=vocab_size,
        table_orders=order_major(max_order, heads),
        table_rows=table_rows,
        row_family="consecutive_primes",
        policy=Policy(boundary_tokens=(boundary,), fill=boundary),
        fusion="gated",
        word_scale="none",
    )
