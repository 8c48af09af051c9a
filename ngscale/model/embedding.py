"""NgramEmbedding: word embedding plus hashed n-gram tables, as in LongCat-Flash-Lite."""

import itertools
import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ngscale.errors import SpecError
from ngscale.hashing.torch_twin import NgramHash, StreamState
from ngscale.model.initialise import fill_normal
from ngscale.spec import NgramSpec


def embedding_std(hidden_size: int) -> float:
    """Initial standard deviation of a plain word embedding: its vectors have norm 1."""
    return 1 / math.sqrt(hidden_size)


class NgramEmbedding(nn.Module):
    """Token ids [B, T] -> the start of the residual stream [B, T, D].

    ``x = amplify( (W[t] + sum_i P_i T_i[id_i]) / (1 + E) )``, i over the E = K(N-1) tables.
    Source: arXiv:2601.21204 Eq. 3 and ``modeling_longcat_ngram.py``, which divides by
    ``1 + K(N-1)``, the word embedding included. Amplification (sec. 3.2.4) is nothing, a factor
    sqrt(D), or a LayerNorm (weight, no bias).

    State dict (parameters in the dtype the module was built with, normally float32):

    - ``word_embeddings.weight`` [V0, D]
    - ``tables.weight`` [sum of table_rows, d]: the E tables, one below the other, d = D // E
    - ``projection.weight`` [D, E*d]: the E projections P_i [D, d], side by side
    - ``amplifier.weight`` [D], only with LayerNorm

    ``row_ids`` turns ids into rows (no parameters); its ``advance`` gives the state for decoding.

    One table and one projection instead of E of each: one gather and one matrix product per
    forward, whatever E is. ``table(i)`` and ``table_projection(i)`` give them one by one.

    Initialisation: the paper asks only that "initial output norms match the baseline". Here the
    tables start at 0 and W at ``1 + E`` times the standard deviation of a plain embedding, so the
    output is at first *equal* to that of a plain embedding, with or without tables, and a row that
    was never trained adds nothing. P_i has std ``1/sqrt(d)``. Random rows of equal variance match
    the norm too, but make 4/5 of the input noise that only unlearns row by row: in a trial of 123k
    tokens (train-small's default design, one seed) they ended at 5.88 nats, zeros at 5.45.

    Raises:
        SpecError: the spec asks for what is not implemented here.
    """

    def __init__(self, vocab_size: int, hidden_size: int, spec: NgramSpec) -> None:
        super().__init__()
        _check(spec, hidden_size)
        self.spec = spec
        self.table_width = hidden_size // spec.num_tables
        joint_width = spec.num_tables * self.table_width
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size)
        self.tables = nn.Embedding(sum(spec.table_rows), self.table_width)
        self.projection = nn.Linear(joint_width, hidden_size, bias=False)
        self.amplifier: nn.Module = nn.Identity()
        if spec.amplification == "layernorm":
            self.amplifier = nn.LayerNorm(hidden_size, bias=False)
        self.scale = 1 / (1 + spec.num_tables)
        if spec.amplification == "sqrt_d":
            self.scale *= math.sqrt(hidden_size)
        self.row_ids = NgramHash(spec)
        starts = [0, *itertools.accumulate(spec.table_rows[:-1])]
        self.table_starts: Tensor
        self.register_buffer("table_starts", torch.tensor(starts), persistent=False)

    def initialise(self, seed: int) -> None:
        """Draw all weights; a function of ``seed`` alone."""
        words = self.word_embeddings.weight
        std = (1 + self.spec.num_tables) * embedding_std(words.shape[1])
        fill_normal(words, std=std, seed=seed, name="word_embeddings")
        nn.init.zeros_(self.tables.weight)
        for i in range(self.spec.num_tables):
            fill_normal(
                self.table_projection(i),
                std=self.table_width**-0.5,
                seed=seed,
                name=f"projection.{i}",
            )
        if isinstance(self.amplifier, nn.LayerNorm):
            nn.init.ones_(self.amplifier.weight)

    def table(self, i: int) -> Tensor:
        """Rows of table ``i`` [table_rows[i], d], a view of ``tables.weight``."""
        start = sum(self.spec.table_rows[:i])
        return self.tables.weight[start : start + self.spec.table_rows[i]]

    def table_projection(self, i: int) -> Tensor:
        """P_i [D, d], a view of ``projection.weight``."""
        return self.projection.weight[:, i * self.table_width : (i + 1) * self.table_width]

    def forward(
        self, tokens: Int64[Tensor, "B T"], state: StreamState | None = None
    ) -> Float[Tensor, "B T D"]:
        """Embed ``tokens``; without a ``state`` the sequences start here."""
        ids = self.row_ids(tokens, state=state)  # (B, T, E)
        rows = self.tables(ids + self.table_starts)  # (B, T, E, d)
        fused = self.word_embeddings(tokens) + self.projection(rows.flatten(-2))  # (B, T, D)
        amplified: Tensor = self.amplifier(self.scale * fused)
        return amplified


def _check(spec: NgramSpec, hidden_size: int) -> None:
    """Refuse what would otherwise be trained as something else."""
    width = hidden_size // spec.num_tables
    policy = spec.policy
    implemented: list[tuple[str, object, tuple[object, ...]]] = [
        ("fusion", spec.fusion, ("average",)),
        ("word_scale", spec.word_scale, ("mean",)),
        ("layers", spec.layers, ((),)),
        ("row_width", spec.row_width, (None, width)),
        ("reserved_rows", spec.reserved_rows, (0,)),
        ("row_multiple", spec.row_multiple, (1,)),
        ("compressed_vocab", spec.compressed_vocab, (None,)),
        ("row_zero", policy.row_zero, ("row",)),
        ("ignored_rule", policy.ignored_rule, ("ordinary", "last_row")),
        ("dead_tokens", policy.dead_tokens, ("ordinary",)),
    ]
    for field, value, known in implemented:
        if value not in known:
            only = " or ".join(map(str, known))
            raise SpecError(f"{field} {value} cannot be trained yet; only {only} can")
