"""N-gram tables as modules: the input embedding with tables, and Engram's reader in a layer."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ngscale.errors import SpecError
from ngscale.hashing.torch_twin import Lookups, NgramHash, StreamState
from ngscale.model.initialise import fill_normal, undrawn_embedding
from ngscale.model.precision import autocast_dtype
from ngscale.model.rms_norm import RMSNorm
from ngscale.model.state import DecoderState
from ngscale.model_spec import NgramGate
from ngscale.ngram_params import table_width
from ngscale.spec import NgramSpec


def embedding_std(hidden_size: int) -> float:
    """Initial standard deviation of a plain word embedding: its vectors have norm 1."""
    return 1 / math.sqrt(hidden_size)


class NgramTables(nn.Module):
    """The tables of a spec, one below the other, and the rows each position reads.

    One gather whatever the number of tables is. ``table(i)`` gives table i alone.
    """

    def __init__(
        self,
        spec: NgramSpec,
        width: int,
        *,
        compressed_ids: Int64[Tensor, " V0"] | None,
        sparse_gradient: bool = False,
    ) -> None:
        super().__init__()
        if (spec.compressed_vocab is None) != (compressed_ids is None):
            what = "takes no" if spec.compressed_vocab is None else "needs the"
            raise SpecError(f"the hash {what} compressed id of every token (compressed_ids)")
        self.spec = spec
        self.table_width = width
        self.tables = undrawn_embedding(spec.physical_rows, width, sparse=sparse_gradient)
        self.row_ids = NgramHash(spec)
        self.compressed_ids: Tensor | None
        self.register_buffer("compressed_ids", compressed_ids)
        self.table_starts: Tensor
        self.register_buffer("table_starts", torch.tensor(spec.table_starts), persistent=False)

    @property
    def joint_width(self) -> int:
        """Columns of all rows of a position."""
        return self.spec.num_tables * self.table_width

    def table(self, i: int) -> Tensor:
        """Rows of table ``i`` [table_rows[i] + reserved_rows, d], a view of ``tables.weight``."""
        start = self.spec.table_starts[i]
        return self.tables.weight[start : start + self.spec.readable_rows(i)]

    def read(
        self,
        tokens: Int64[Tensor, "B T"],
        *,
        segments: Int64[Tensor, "B T"] | None = None,
        dead: Bool[Tensor, "B T"] | None = None,
        state: StreamState | None = None,
    ) -> Float[Tensor, "B T Ed"]:
        """All rows of every position, side by side; arguments as of ``NgramHash.forward``."""
        found = self.row_ids.look_up(
            self._hashed(tokens), segments=segments, dead=dead, state=state
        )
        rows: Tensor = self.tables(self._stacked(found))  # (B, T, E, d)
        if found.reads is not None:
            rows = rows.masked_fill(~found.reads.unsqueeze(-1), 0)
        return rows.flatten(-2)

    def rows_read(
        self, tokens: Int64[Tensor, "B T"], state: StreamState | None = None
    ) -> Int64[Tensor, "B T E"]:
        """The rows of ``tables.weight`` that ``read`` gathers."""
        return self._stacked(self.row_ids.look_up(self._hashed(tokens), state=state))

    def _stacked(self, found: Lookups) -> Int64[Tensor, "B T E"]:
        ids = found.ids if found.reads is None else found.ids.clamp_min(0)
        return ids + self.table_starts

    def advance(
        self,
        tokens: Int64[Tensor, "B T"],
        *,
        segments: Int64[Tensor, "B T"] | None = None,
        dead: Bool[Tensor, "B T"] | None = None,
        state: StreamState | None = None,
    ) -> StreamState:
        """The state behind ``tokens``, which the next call of ``forward`` or ``read`` takes."""
        advanced: StreamState = self.row_ids.advance(
            self._hashed(tokens), segments=segments, dead=dead, state=state
        )
        return advanced

    def advance_each(
        self, tokens: Int64[Tensor, "B T"], state: StreamState | None = None
    ) -> Int64[Tensor, "B T P"]:
        """The ids of the state behind each of ``tokens``."""
        seen: Tensor = self.row_ids.advance_each(self._hashed(tokens), state)
        return seen

    def _hashed(self, tokens: Int64[Tensor, "B T"]) -> Int64[Tensor, "B T"]:
        return tokens if self.compressed_ids is None else self.compressed_ids[tokens]


class NgramEmbedding(NgramTables):
    """Token ids [B, T] int64 -> the start of the residual stream [B, T, D].

    With W the word embedding and r_i = T_i[id_i] the rows of E tables of d columns, by ``fusion``:

    - ``average``, ``sum``: x = a W[t] + b sum_i P_i r_i (arXiv:2601.21204 Eq. 3, and
      ``modeling_longcat_ngram.py``)
    - ``added``: x = a W[t] + b sum_i r_i, d = D
    - ``concat``: x = C [W[t] | r_1 | .. | r_E] (Over-Encoding, arXiv:2501.16975)
    - ``concat_rows``: x = W[t] + C [r_1 | .. | r_E] (Nanbeige4.2)

    and by ``word_scale`` a = b = 1/(1+E) (``mean``, LongCat-Flash-Lite), 1/sqrt(1+E)
    (``sqrt_mean``), a = 1 and b = 1/(1+E) (``sum_only``), a = b = 1 (``none``). Positions that the
    policy exempts keep W[t] as it is (LongCat-Next's ignored ids). Then amplification (sec. 3.2.4):
    a factor, sqrt(D), or a LayerNorm with weight and without bias. ``gated`` fusion reads the
    stream of a layer; that is ``NgramReader``.

    Use it in a trainer of your own in place of ``nn.Embedding``::

        embedding = NgramEmbedding(vocab_size, hidden_size, spec)
        embedding.initialise(seed)
        x = embedding(tokens)

    State dict (parameters float32 unless cast; row ids are exact whatever they are cast to):

    - ``word_embeddings.weight`` [V0, D]
    - ``tables.weight`` [rows of all tables, d]: the E tables, one below the other
    - ``projection.weight`` [D, E*d], the E projections P_i side by side; [D, D + E*d] for
      ``concat``; absent for ``added``
    - ``amplifier.weight`` [D], only with LayerNorm
    - ``compressed_ids`` [V0] int64, only where the hash takes those (Engram)

    ``model/longcat.py`` reads and writes LongCat's names instead. Adam for the tables wants a rate
    of its own and no weight decay (``train_small/optimiser.py``).

    Streaming: ``x = embedding(new, state=state)``, then ``state = embedding.advance(new,
    state=state)``, from ``state=None`` on, gives what one pass over the whole sequence gives. The
    state is N-1 ids a sequence.

    With ``sparse_gradient`` the gradient of the tables holds the rows that were read and no others
    (a sparse tensor, for ``torch.optim.SparseAdam``, whose moments of other rows stand still): the
    dense one is as large as the tables, and zeroing it takes longer than all else where they are
    much larger than a batch (``benchmarks/ngram_embedding.py``). FSDP2 takes dense ones only.

    Runs under autocast (the sum stays in float32), ``torch.compile`` (one graph) and FSDP2
    (``fully_shard(embedding)``; call ``initialise`` before), without a host sync.

    Initialisation: the paper asks only that "initial output norms match the baseline". Here the
    tables start at 0 and W at ``1/a`` times the standard deviation of a plain embedding (its part
    of C is the identity), so the output before amplification is at first *equal* to that of a
    plain embedding, with or without tables, and a row that was never trained adds nothing. P_i has
    std ``1/sqrt(d)``, and so have the columns of C for rows. Random rows of equal variance match
    the norm too, but make 4/5 of the input noise that only unlearns row by row: in a trial of 123k
    tokens (train-small's default design, one seed) they ended at 5.88 nats, zeros at 5.45.

    Raises:
        SpecError: the spec does not describe an embedding of this width.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        spec: NgramSpec,
        *,
        compressed_ids: Int64[Tensor, " V0"] | None = None,
        sparse_gradient: bool = False,
    ) -> None:
        width = table_width(spec, hidden_size)
        _check(spec, hidden_size, width)
        super().__init__(
            spec, width, compressed_ids=compressed_ids, sparse_gradient=sparse_gradient
        )
        self.word_embeddings = undrawn_embedding(vocab_size, hidden_size)
        self.projection: nn.Linear | None = None
        if spec.fusion != "added":
            inputs = self.joint_width + hidden_size * (spec.fusion == "concat")
            self.projection = nn.Linear(inputs, hidden_size, bias=False)
        self.amplifier: nn.Module = nn.Identity()
        if spec.amplification == "layernorm":
            self.amplifier = nn.LayerNorm(hidden_size, bias=False)
        self.word_scale, self.row_scale = _scales(spec)
        self.factor = spec.amplification_factor
        if spec.amplification == "sqrt_d":
            self.factor = math.sqrt(hidden_size)

    def initialise(self, seed: int, *, norm: float = 1.0, prefix: str = "") -> None:
        """Draw all weights; a function of ``seed`` and ``prefix`` alone.

        ``norm`` is that of the output vectors at first, before amplification.
        """
        words = self.word_embeddings.weight
        std = norm * embedding_std(words.shape[1]) / self.word_scale
        fill_normal(words, std=std, seed=seed, name=f"{prefix}word_embeddings")
        nn.init.zeros_(self.tables.weight)
        if self.projection is not None:
            for i in range(self.spec.num_tables):
                name, std = f"{prefix}projection.{i}", self.table_width**-0.5
                fill_normal(self.table_projection(i), std=std, seed=seed, name=name)
            if self.spec.fusion == "concat":
                with torch.no_grad():
                    self.projection.weight[:, : words.shape[1]] = torch.eye(words.shape[1])
        if isinstance(self.amplifier, nn.LayerNorm):
            nn.init.ones_(self.amplifier.weight)

    def table_projection(self, i: int) -> Tensor:
        """P_i [D, d], a view of ``projection.weight``."""
        assert self.projection is not None
        first = self.projection.in_features - self.joint_width + i * self.table_width
        return self.projection.weight[:, first : first + self.table_width]

    def forward(
        self,
        tokens: Int64[Tensor, "B T"],
        state: StreamState | None = None,
        *,
        segments: Int64[Tensor, "B T"] | None = None,
        dead: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Embed ``tokens``; without a ``state`` the sequences start here.

        ``segments`` numbers the documents of packed sequences, ``dead`` marks positions without
        text, where the policy knows them.
        """
        rows = self.read(tokens, segments=segments, dead=dead, state=state)  # (B, T, E*d)
        words = self.word_embeddings(tokens)  # (B, T, D)
        fused = self.fuse(words, rows)
        averaged = self.row_ids.averaged(tokens)
        if averaged is not None:
            fused = torch.where(averaged.unsqueeze(-1), fused, self.factor * words)
        amplified: Tensor = self.amplifier(fused)
        return amplified

    def fuse(
        self, words: Float[Tensor, "B T D"], rows: Float[Tensor, "B T Ed"]
    ) -> Float[Tensor, "B T D"]:
        """The sum above of words and rows, times the factor of amplification."""
        a, b = self.factor * self.word_scale, self.factor * self.row_scale
        if self.projection is None:
            summed: Tensor = rows.view(*words.shape[:2], self.spec.num_tables, -1).sum(-2)
            return a * words + b * summed
        if self.spec.fusion == "concat":
            joined: Tensor = self.projection(torch.cat([words, rows], dim=-1))
            return joined if self.factor == 1 else self.factor * joined
        if autocast_dtype(words) is not None:
            summed = self.projection(rows)
            return a * words + b * summed
        fused = torch.addmm(
            words.flatten(0, 1), rows.flatten(0, 1), self.projection.weight.T, beta=a, alpha=b
        )
        return fused.view_as(words)


def embed(
    embedding: nn.Module,
    tokens: Int64[Tensor, "B T"],
    state: DecoderState | None,
    *,
    ahead: int = 0,
) -> Float[Tensor, "B T D"]:
    """By an embedding with or without tables; the tokens begin ``ahead`` behind the state's end."""
    if state is None or not isinstance(embedding, NgramEmbedding):
        plain: Tensor = embedding(tokens)
        return plain
    past = state.past(embedding, ahead)
    embedded: Tensor = embedding(tokens, past)
    state.remember(embedding, embedding.advance_each(tokens, past), ahead)
    return embedded


def _scales(spec: NgramSpec) -> tuple[float, float]:
    """Of the word and of the summed rows (D3)."""
    shares = 1 + spec.num_tables
    return {
        "mean": (1 / shares, 1 / shares),
        "sqrt_mean": (shares**-0.5, shares**-0.5),
        "sum_only": (1.0, 1 / shares),
        "none": (1.0, 1.0),
    }[spec.word_scale]


def _check(spec: NgramSpec, hidden_size: int, width: int) -> None:
    """Refuse what would otherwise be trained as something else."""
    if spec.fusion == "gated":
        raise SpecError("fusion gated reads the stream of a layer (NgramReader), not the input")
    if spec.placement == "ple":
        raise SpecError("placement ple is a plain embedding in a dense block, without n-gram rows")
    if spec.layers and spec.placement == "input":
        raise SpecError(
            f"layers {spec.layers} with fusion {spec.fusion}: only gated fusion is read"
        )
    if spec.fusion == "added" and width != hidden_size:
        raise SpecError(f"row_width {width}: rows that are added have hidden_size {hidden_size}")
    if spec.fusion in ("concat", "concat_rows") and spec.word_scale != "none":
        raise SpecError(f"word_scale {spec.word_scale}: fusion {spec.fusion} divides nothing")


class NgramReader(NgramTables):
    """Engram in a layer (arXiv:2601.07372): what the rows of a token add to its stream.

    With e the rows side by side and h the stream: key k = RMS(W_K e), gate = sigmoid(ssqrt(<k,
    RMS(h)> / sqrt(D))), v = gate W_V e, and v + SiLU(Conv(RMS(v))) where there is a convolution
    (causal, depthwise, dilated by the longest order). ssqrt(x) = sign(x) sqrt(max(|x|, 1e-6)) is
    in the released code, not in the paper. Tables and convolution start at 0, so that it adds
    nothing at first.

    State dict: ``tables.weight``, ``key_proj.weight`` and ``value_proj.weight`` [D, E*d],
    ``norm_key.weight``, ``norm_query.weight`` and ``norm_conv.weight`` [D], ``conv1d.weight``
    [D, 1, kernel].

    Raises:
        SpecError: the spec is not of one residual stream, or its fusion is another.
    """

    def __init__(
        self,
        hidden_size: int,
        spec: NgramSpec,
        gate: NgramGate,
        *,
        eps: float = 1e-6,
        compressed_ids: Int64[Tensor, " V0"] | None = None,
    ) -> None:
        width = table_width(spec, hidden_size)
        if spec.fusion != "gated" or gate.num_streams != 1:
            raise SpecError(
                f"fusion {spec.fusion} with {gate.num_streams} streams: must be gated, 1"
            )
        super().__init__(spec, width, compressed_ids=compressed_ids)
        self.hidden_size = hidden_size
        self.key_proj = nn.Linear(self.joint_width, hidden_size, bias=gate.bias)
        self.value_proj = nn.Linear(self.joint_width, hidden_size, bias=gate.bias)
        self.norm_key = RMSNorm(hidden_size, eps=eps)
        self.norm_query = RMSNorm(hidden_size, eps=eps)
        self.norm_conv: RMSNorm | None = None
        self.conv1d: nn.Conv1d | None = None
        if gate.conv_kernel:
            self.norm_conv = RMSNorm(hidden_size, eps=eps)
            kernel: dict[str, Any] = {"kernel_size": gate.conv_kernel, "dilation": spec.max_order}
            self.conv1d = nn.Conv1d(
                hidden_size, hidden_size, groups=hidden_size, bias=False, **kernel
            )

    def initialise(self, seed: int, *, prefix: str = "") -> None:
        """Draw all weights; a function of ``seed`` and ``prefix`` alone."""
        for name, weight in self.named_parameters():
            if name in ("tables.weight", "conv1d.weight") or name.endswith(".bias"):
                nn.init.zeros_(weight)
            elif name.startswith("norm"):
                nn.init.ones_(weight)
            else:
                std = weight.shape[-1] ** -0.5
                fill_normal(weight, std=std, seed=seed, name=f"{prefix}{name}")

    def forward(
        self,
        stream: Float[Tensor, "B T D"],
        tokens: Int64[Tensor, "B T"],
        state: DecoderState | None = None,
    ) -> Float[Tensor, "B T D"]:
        """What is added to ``stream``; without a ``state`` the sequences start here."""
        rows = self.read(tokens, state=None if state is None else state.past(self))
        if state is not None:
            state.remember(self, self.advance_each(tokens, state.past(self)))
        key, query = self.norm_key(self.key_proj(rows)), self.norm_query(stream)
        score = (key * query).sum(-1, keepdim=True).float() / math.sqrt(self.hidden_size)
        gate = (score.sign() * score.abs().clamp_min(1e-6).sqrt()).sigmoid()
        value: Tensor = gate * self.value_proj(rows)  # (B, T, D)
        if self.conv1d is None or self.norm_conv is None:
            return value
        reach = (self.conv1d.kernel_size[0] - 1) * self.conv1d.dilation[0]
        channels = self.norm_conv(value).transpose(1, 2)
        if state is None:
            channels = functional.pad(channels, (reach, 0))  # (B, D, r+T)
        else:
            channels = state.window(self, channels, reach)
        mixed: Tensor = value + functional.silu(self.conv1d(channels)).transpose(1, 2)
        return mixed
