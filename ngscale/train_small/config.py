"""What is trained: the built-in design, and the constants."""

from dataclasses import dataclass
from typing import Literal

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.params import most_active
from ngscale.policy import mode_policy
from ngscale.spec import longcat_spec

DEFAULT_TOKENIZER = "bpe-4096"

DEFAULT_DESIGN = Design(
    model=decoder_model(
        DecoderConfig(
            vocab_size=4096,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            moe_intermediate_size=64,
            num_experts=16,
            num_experts_per_tok=2,
        )
    ),
    ngrams=(
        longcat_spec(
            vocab_size=4096,
            max_order=3,
            num_subtables=2,
            # 4.28 to 4.35 times V0. Odd, so coprime with V0 = 2**12; the shortest vector of each
            # bigram lattice (x*V0 + y = 0 mod rows) is at least sqrt(rows) long, so no resonance;
            # and the two bigram sizes are coprime, so no two bigrams share both rows.
            table_rows=(17_703, 17_575, 17_535, 17_799),
            policy=mode_policy("hf", 0),
        ),
    ),
)
"""5.10M parameters, 44.6% of them in tables and projections; 0.94M active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Constants of every run, the same in all arms."""

    seq_len: int = 256
    """Tokens a block predicts; a block is one longer."""
    batch_size: int = 4
    """Blocks per step, of all ranks together."""
    accumulation: int = 1
    """Parts of a step's batch, each with a backward pass of its own."""
    held_out_frac: float = 0.05
    """Share of documents, by the hash of their content, that are never trained on."""
    section_tokens: int = 4096
    """Longer documents are held out in sections of this length, each by its own hash."""
    max_eval_blocks: int = 64
    """Held-out blocks that a validation loss averages over."""
    num_evals: int = 5
    """Validation losses per run, evenly spaced; the last one is the result."""
    num_train_points: int = 40
    """Points of a training curve."""
    log_every: int = 10
    """Steps from one line of log.jsonl to the next."""
    learning_rate: float = 3e-3
    """Peak of AdamW's rate for matrices and norms, and for a plain word embedding."""
    table_lr_factor: float = 5.0
    """Tables learn at this multiple of the rate, without weight decay (arXiv:2601.07372,
    table 5)."""
    table_weight_decay: float = 0.0
    """On the rows a step looks up (arXiv:2601.07372, table 5: none)."""
    weight_decay: float = 0.1
    """On matrices only: not on tables, embeddings or norms."""
    schedule: Literal["wsd", "cosine"] = "wsd"
    """What follows the warmup."""
    warmup_frac: float = 0.05
    """Share of the steps over which the rate rises linearly."""
    decay_frac: float = 0.4
    """``wsd``: share of the steps, at the end, over which it falls linearly to 0."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    balance_rate: float = 1e-3
    """Step of the router's bias (arXiv:2408.15664)."""

    @property
    def tokens_per_step(self) -> int:
        """Predicted tokens per optimiser step."""
        return self.batch_size * self.seq_len


TRAINING = Training()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the models that are compared."""

    name: str
    design: Design

    @property
    def active_parameters(self) -> int:
        """Per token, with projections and lm_head and without the rows of embeddings read."""
        return most_active(self.design)
