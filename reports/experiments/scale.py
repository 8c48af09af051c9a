"""What every experiment shares: text, tokenizer, training, and the backbone the tables sit on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.policy import mode_policy
from ngscale.spec import NgramSpec, PolynomialHash, longcat_spec, order_major
from ngscale.table_sizes import is_sound, sound_sizes
from ngscale.train_small.config import Training

CORPUS = "english"
CORPUS_SHA256 = "6c977400cd90e8ccae788d985b76cc28b01835a301cf112a32a9cc1403bddebc"
"""Of its ids, 36,574,023 tokens."""
TOKENIZER = "bpe-4096"
TOKENIZER_SHA256 = "bdafc9e9c439cd701447ea5cd1b3413c2f847715f5f5b998af39e96f94924e89"
VOCAB_SIZE = 4096
HIDDEN_SIZE = 96
"""Divisible by the number of tables of every N and K of the paper's Fig. 4."""
ROWS = 6 * VOCAB_SIZE
"""Of every table. Table parameters are ``ROWS * HIDDEN_SIZE`` whatever N and K (sec. 3 of the
paper), 47% of the total."""
TOKENS = 1_465 * 1_024
"""Of a run of E2 to E6: 3 tokens per active parameter, 0.3 per parameter."""
TRAINING = Training(num_evals=6, max_eval_blocks=192)
"""That of ``ngscale train-small``, but for the held-out blocks: three times as many."""

BACKBONE = DecoderConfig(
    vocab_size=VOCAB_SIZE,
    hidden_size=HIDDEN_SIZE,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=32,
    moe_intermediate_size=64,
    num_experts=48,
    num_experts_per_tok=2,
)
"""2.62M parameters, 0.53M of them active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A design of an experiment, and what the report says about it."""

    name: str
    design: Design
    tokens: int = TOKENS
    facts: dict[str, Any]
    """Columns of the report's table that the design alone decides."""
    family: str = ""
    """Arms that are compared with each other; families are trained one after the other."""


def tables(
    max_order: int,
    num_subtables: int,
    rows: int | Sequence[int],
    *,
    base: int = VOCAB_SIZE,
    **changes: Any,
) -> NgramSpec:
    """LongCat's tables over orders 2..N; one number of rows is that of all."""
    count = (max_order - 1) * num_subtables
    sizes = (rows,) * count if isinstance(rows, int) else tuple(rows)
    spec = longcat_spec(
        vocab_size=VOCAB_SIZE,
        max_order=max_order,
        num_subtables=num_subtables,
        table_rows=sizes,
        policy=mode_policy("hf", 0),
    )
    return replace(spec, hash=PolynomialHash(base=base), **changes)


def clean_rows(max_order: int, num_subtables: int, rows: int = ROWS) -> tuple[int, ...]:
    """The sizes nearest to ``rows`` that pass the checks of ``ngscale audit``, coprime in pairs."""
    orders = order_major(max_order, num_subtables)
    found = sound_sizes((rows,) * len(orders), VOCAB_SIZE, orders)
    assert found is not None, "no sound sizes"
    return found


def clean_base(max_order: int, num_subtables: int, sizes: Sequence[int]) -> int:
    """The first base from V0 on with which these sizes pass the checks of ``ngscale audit``."""
    orders = order_major(max_order, num_subtables)
    return next(b for b in range(VOCAB_SIZE, 2 * VOCAB_SIZE) if is_sound(sizes, b, orders))


def clean_tables(max_order: int, num_subtables: int) -> NgramSpec:
    """LongCat's rule beside 6 x V0, ``ROWS + 2i + 1``, made clean by another base of the hash."""
    sizes = [ROWS + 2 * i + 1 for i in range((max_order - 1) * num_subtables)]
    return tables(max_order, num_subtables, sizes, base=clean_base(max_order, num_subtables, sizes))


def design_of(*specs: NgramSpec, backbone: DecoderConfig = BACKBONE) -> Design:
    """The backbone with these tables."""
    return Design(model=decoder_model(backbone), ngrams=specs)
