"""What a model is made of: attention, feed-forward and expert blocks in layers. Exact integers.

One representation for every architecture; ``architectures/`` reads it from config.json. Every
block knows its own parameters, so that nothing else has to know its shapes. ``matmul_parameters``
are those multiplied with a token (2 FLOPs each); norms, biases and the like are the rest. Standard
library only.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ngscale.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """The small scorer that picks which keys a sparse attention reads."""

    num_heads: int
    head_dim: int
    matmul_parameters: int
    other_parameters: int
    """Norms and biases."""
    top_k: int | None = None
    """Keys that attention then reads; None where the config does not say."""
    compress_rate: int = 1
    """Tokens that share one index key."""
    caches_keys: bool = True
    """False where the index keys are another layer's (DeepSeek-V4.1)."""

    @property
    def parameters(self) -> int:
        """All of it."""
        return self.matmul_parameters + self.other_parameters

    @property
    def cached_values(self) -> int:
        """Of the index key, for every token of the context, rounded up."""
        return -(-self.head_dim // self.compress_rate) if self.caches_keys else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedAttention:
    """Multi-head, multi-query or grouped-query attention."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    gate_dim: int = 0
    """Columns of the projection that gates the heads' output (within ``q_proj`` in Qwen3-Next)."""
    qkv_bias: bool = False
    o_bias: bool = False
    norm_parameters: int = 0
    """Of the norms of queries and keys, and of inner ones."""
    num_sinks: int = 0
    """Learned logits that take part in the softmax (gpt-oss: one a head)."""
    window: int | None = None
    """Tokens that are read, the current one included; None: all."""
    projects_kv: bool = True
    """False where keys and values are another layer's and the projections are absent."""
    caches_kv: bool = True
    """False where keys and values are another layer's (Gemma 3n)."""
    indexer: Indexer | None = None

    @property
    def query_dim(self) -> int:
        """Columns of all query heads."""
        return self.num_heads * self.head_dim

    @property
    def _key_value_dim(self) -> int:
        """Columns of the key and value projections."""
        return 2 * self.num_kv_heads * self.head_dim * self.projects_kv

    @property
    def matmul_parameters(self) -> int:
        """q, k, v, o, the output gate and the indexer."""
        inward = self.query_dim + self._key_value_dim + self.gate_dim
        indexer = 0 if self.indexer is None else self.indexer.matmul_parameters
        return self.hidden_size * (inward + self.query_dim) + indexer

    @property
    def parameters(self) -> int:
        """All of it."""
        biases = self.qkv_bias * (self.query_dim + self._key_value_dim + self.gate_dim)
        biases += self.o_bias * self.hidden_size
        indexer = 0 if self.indexer is None else self.indexer.other_parameters
        return self.matmul_parameters + biases + self.norm_parameters + self.num_sinks + indexer

    @property
    def cached_values(self) -> int:
        """Numbers kept for every token of the context (of the window, where there is one)."""
        if not self.caches_kv:
            return 0
        index_key = 0 if self.indexer is None else self.indexer.cached_values
        return 2 * self.num_kv_heads * self.head_dim + index_key

    @property
    def pair_dim(self) -> int:
        """Columns multiplied for every query-key pair: scores, then values (2 FLOPs each)."""
        return 2 * self.query_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (MLA, arXiv:2405.04434): keys and values from one latent."""

    hidden_size: int
    num_heads: int
    q_lora_rank: int | None
    """None: queries are projected at once."""
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    bias: bool = False
    """Of ``q_a_proj``, ``kv_a_proj_with_mqa`` and ``o_proj`` (``attention_bias``)."""
    indexer: Indexer | None = None

    @property
    def window(self) -> int | None:
        """All tokens are read."""
        return None

    @property
    def matmul_parameters(self) -> int:
        """q_a, q_b (or q), kv_a, kv_b, o and the indexer."""
        D, H = self.hidden_size, self.num_heads
        query_dim = H * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        rank = self.q_lora_rank
        query = D * query_dim if rank is None else rank * (D + query_dim)
        key_value = D * (self.kv_lora_rank + self.qk_rope_head_dim)
        key_value += self.kv_lora_rank * H * (self.qk_nope_head_dim + self.v_head_dim)
        indexer = 0 if self.indexer is None else self.indexer.matmul_parameters
        return query + key_value + H * self.v_head_dim * D + indexer

    @property
    def parameters(self) -> int:
        """All of it, the norms of both latents included."""
        rank = self.q_lora_rank or 0
        biases = self.bias * (rank + self.kv_lora_rank + self.qk_rope_head_dim + self.hidden_size)
        indexer = 0 if self.indexer is None else self.indexer.other_parameters
        return self.matmul_parameters + rank + self.kv_lora_rank + biases + indexer

    @property
    def cached_values(self) -> int:
        """The latent and the one rotary key, for every token of the context."""
        index_key = 0 if self.indexer is None else self.indexer.cached_values
        return self.kv_lora_rank + self.qk_rope_head_dim + index_key

    @property
    def pair_dim(self) -> int:
        """As ``GroupedAttention``'s, with keys and values expanded (prefill)."""
        query_dim = self.qk_nope_head_dim + self.qk_rope_head_dim
        return self.num_heads * (query_dim + self.v_head_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAttention:
    """Gated delta net (arXiv:2412.06464): a state of fixed size instead of a cache."""

    hidden_size: int
    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    """Of the depthwise convolution over queries, keys and values."""

    @property
    def conv_dim(self) -> int:
        """Columns of queries, keys and values together."""
        keys = 2 * self.num_key_heads * self.key_head_dim
        return keys + self.num_value_heads * self.value_head_dim

    @property
    def matmul_parameters(self) -> int:
        """q, k, v, the output gate z, the two scalars a head (a, b), and o."""
        value_dim = self.num_value_heads * self.value_head_dim
        inward = self.conv_dim + value_dim + 2 * self.num_value_heads
        return self.hidden_size * (inward + value_dim)

    @property
    def parameters(self) -> int:
        """And the convolution, ``A_log``, ``dt_bias`` and the norm of a head."""
        heads = 2 * self.num_value_heads + self.value_head_dim
        return self.matmul_parameters + self.conv_dim * self.conv_kernel + heads

    @property
    def cached_values(self) -> int:
        """Nothing is kept per token."""
        return 0

    @property
    def window(self) -> int | None:
        """Everything before is in the state."""
        return None

    @property
    def state_values(self) -> int:
        """Kept for a sequence: the state of every head and the convolution's last inputs."""
        state = self.num_value_heads * self.key_head_dim * self.value_head_dim
        return state + self.conv_dim * self.conv_kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedAttention:
    """DeepSeek-V4's: one key-value head, of the last ``local_window`` tokens and of all compressed
    ``compress_rate`` to one; queries and output in low rank.
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    local_window: int
    compress_rate: int = 0
    """0: nothing but the local window is read."""
    compressor_parameters: int = 0
    """Of its projections; 0 where the compressed keys are another layer's."""
    compressor_other_parameters: int = 0
    """Norm and position biases."""
    caches_compressed: bool = True
    """False where the compressed keys are another layer's (DeepSeek-V4.1)."""
    indexer: Indexer | None = None

    @property
    def matmul_parameters(self) -> int:
        """q_a, q_b, kv, o_a (one matrix a group), o_b, the compressor and the indexer."""
        D, d = self.hidden_size, self.head_dim
        query = self.q_lora_rank * (D + self.num_heads * d)
        output = self.o_lora_rank * (self.num_heads * d + self.o_groups * D)
        indexer = 0 if self.indexer is None else self.indexer.matmul_parameters
        return query + D * d + output + self.compressor_parameters + indexer

    @property
    def parameters(self) -> int:
        """And norms, sinks and the compressor's position biases."""
        norms = self.q_lora_rank + self.head_dim
        other = norms + self.num_heads + self.compressor_other_parameters
        indexer = 0 if self.indexer is None else self.indexer.other_parameters
        return self.matmul_parameters + other + indexer

    @property
    def cached_values(self) -> int:
        """For every token of the context, on average, rounded up; the local window is apart."""
        index_key = 0 if self.indexer is None else self.indexer.cached_values
        if not self.compress_rate or not self.caches_compressed:
            return index_key
        return -(-self.head_dim // self.compress_rate) + index_key

    @property
    def window(self) -> int | None:
        """``cached_values`` are of the whole context."""
        return None


Attention = GroupedAttention | LatentAttention | LinearAttention | CompressedAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """A dense feed-forward block, or one expert."""

    hidden_size: int
    intermediate_size: int
    is_gated: bool = True
    """Gate, up and down projections; otherwise up and down."""
    bias: bool = False

    @property
    def matmul_parameters(self) -> int:
        """3 or 2 matrices of ``hidden_size * intermediate_size``."""
        return (2 + self.is_gated) * self.hidden_size * self.intermediate_size

    @property
    def parameters(self) -> int:
        """All of it."""
        biases = (1 + self.is_gated) * self.intermediate_size + self.hidden_size
        return self.matmul_parameters + self.bias * biases


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: the router, the experts it chooses from, those that are always on."""

    expert: FeedForward
    num_experts: int
    """With weights; the router also chooses from ``num_zero_experts`` without (LongCat)."""
    top_k: int
    num_zero_experts: int = 0
    router_biases: int = 0
    """Biases an expert has in the router: of its projection, and the correction that balances the
    load (``e_score_correction_bias``)."""
    shared: tuple[FeedForward, ...] = ()
    shared_gate: bool = False
    """A scalar gate on the shared expert (Qwen2-MoE)."""

    def __post_init__(self) -> None:
        """Refuse a top-k that the router cannot fill."""
        if self.top_k > self.num_routed:
            zero = f" and {self.num_zero_experts} zero experts" if self.num_zero_experts else ""
            raise SpecError(f"top-k {self.top_k} exceeds {self.num_experts} experts{zero}")

    @property
    def hidden_size(self) -> int:
        """Columns of what is routed."""
        return self.expert.hidden_size

    @property
    def num_routed(self) -> int:
        """Rows of the router."""
        return self.num_experts + self.num_zero_experts

    @property
    def router_parameters(self) -> int:
        """Without biases."""
        return self.num_routed * self.hidden_size

    @property
    def router_bias_parameters(self) -> int:
        """Of all kinds."""
        return self.num_routed * self.router_biases

    @property
    def added_parameters(self) -> int:
        """Of one more expert: its matrices, its row of the router and its biases there."""
        return self.expert.parameters + self.hidden_size + self.router_biases

    @property
    def expert_parameters(self) -> int:
        """Of all routed experts."""
        return self.num_experts * self.expert.parameters

    @property
    def shared_parameters(self) -> int:
        """Of the experts that are always on, and their gate."""
        gate = self.hidden_size * self.shared_gate
        return sum(block.parameters for block in self.shared) + gate

    @property
    def active_range(self) -> tuple[int, int]:
        """Fewest and most experts with weights that a token can be routed to."""
        return max(0, self.top_k - self.num_zero_experts), min(self.top_k, self.num_experts)


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramGate:
    """Engram's reader of n-gram rows (arXiv:2601.07372): keys and a value from a token's rows, a
    gate for every residual stream, and a depthwise convolution.
    """

    hidden_size: int
    joint_width: int
    """Columns of all rows of a token."""
    num_streams: int = 1
    """Residual streams (hyper-connections), each with a key of its own."""
    bias: bool = False
    """Of the key and value projections."""
    conv_kernel: int = 0
    """0: no convolution, nor its norm."""

    @property
    def matmul_parameters(self) -> int:
        """A key for every stream and one value."""
        return self.joint_width * self.hidden_size * (self.num_streams + 1)

    @property
    def parameters(self) -> int:
        """And biases, the weights of norms of keys, queries and convolution, and the latter."""
        norms = 2 + (self.conv_kernel > 0)
        each = self.num_streams * (norms + self.conv_kernel) + self.bias * (self.num_streams + 1)
        return self.matmul_parameters + self.hidden_size * each


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: blocks that each add to the residual stream, and the norms between them."""

    attentions: tuple[Attention, ...] = ()
    ffns: tuple[FeedForward, ...] = ()
    experts: Experts | None = None
    norm_parameters: int = 0
    extra: tuple[tuple[str, int], ...] = ()
    """(group, parameters) of what no block above says."""

    def group_counts(self) -> Counter[str]:
        """Parameters by group."""
        counts = Counter(
            attention=sum(block.parameters for block in self.attentions),
            dense_ffn=sum(block.parameters for block in self.ffns),
            norms=self.norm_parameters,
        )
        if self.experts is not None:
            counts["experts"] = self.experts.expert_parameters
            counts["shared_experts"] = self.experts.shared_parameters
            counts["router"] = self.experts.router_parameters
            counts["router_bias"] = self.experts.router_bias_parameters
        for group, count in self.extra:
            counts[group] += count
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertKeys:
    """What a family's config.json calls the numbers of its experts (dots lead into objects)."""

    num_experts: str
    top_k: str
    intermediate_size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder without its n-gram tables."""

    model_type: str
    vocab_size: int
    """Rows of the word embedding."""
    hidden_size: int
    layers: tuple[tuple[int, Layer], ...]
    """(how many alike, layer), from the first to the last; ``runs`` makes them."""
    final_norm_parameters: int
    ties_embeddings: bool = False
    """Whether the head is the word embedding."""
    position_parameters: int = 0
    """Of learned position embeddings."""
    extra: tuple[tuple[str, int], ...] = ()
    """(group, parameters) outside of all layers."""
    mtp_layers: tuple[tuple[int, Layer], ...] = ()
    """Multi-token-prediction layers; counted apart from the total."""
    expert_keys: ExpertKeys | None = None
    """None where there are no experts."""
    config: Mapping[str, Any] = field(compare=False, repr=False)
    """The config.json that was read."""

    @property
    def num_layers(self) -> int:
        """Layers, MTP not counted."""
        return sum(count for count, _ in self.layers)

    @property
    def moe_layers(self) -> tuple[tuple[int, Experts], ...]:
        """(how many alike, experts) of the layers that have some."""
        return tuple(
            (count, layer.experts) for count, layer in self.layers if layer.experts is not None
        )

    @property
    def attentions(self) -> tuple[tuple[int, Attention], ...]:
        """(how many alike, attention), over all layers."""
        return tuple((count, block) for count, layer in self.layers for block in layer.attentions)


def runs(layers: Iterable[Layer]) -> tuple[tuple[int, Layer], ...]:
    """Neighbouring equal layers together, each with their number."""
    return tuple((sum(1 for _ in alike), layer) for layer, alike in groupby(layers))
