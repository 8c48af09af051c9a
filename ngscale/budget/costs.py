"""What a design costs to keep and to run: the ``memory``, ``flops``, ``traffic``, ``placement`` and
``parallel`` blocks of its budget, and the arithmetic behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ngscale.budget import flops, memory
from ngscale.budget.arithmetic import Line
from ngscale.budget.parallel import Ranks, Stage, split
from ngscale.design import Design
from ngscale.params import Dtype, bytes_per_parameter, parameter_groups
from ngscale.spec import MAX_TABLE_ROWS
from ngscale.tiers import TIERS, TableReads, anchors, feed, is_validated

_DTYPES: tuple[Dtype, ...] = ("fp8", "bf16", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the design is run on, and how."""

    context_tokens: int = 8192
    num_sequences: int = 1
    cache_dtype: Dtype = "bf16"
    ranks: Ranks = field(default_factory=Ranks)
    window_us: float | None = None
    """Time between knowing a batch's token ids and needing the rows; None: not known."""


def costs(design: Design, dtype: Dtype, workload: Workload) -> dict[str, Any]:
    """The blocks by name.

    Raises:
        UsageError: the design cannot be split over the ranks of ``workload``.
    """
    arithmetic = _Costs.of(design, dtype, workload)
    traffic = _traffic(design, dtype)
    return {
        "memory": _memory(design, dtype, workload, arithmetic),
        "flops": _flops(workload, arithmetic),
        "traffic": traffic,
        "placement": _placement(design, dtype, traffic, workload),
        "parallel": _parallel(design, dtype, workload),
        "arithmetic": [line.document() for line in arithmetic.lines],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """Every line of the arithmetic, by what it is used for."""

    weights: Sequence[Line]
    cache: Sequence[Line]
    training: dict[str, Line]
    activations: dict[str, Line]
    fewest: Sequence[Line]
    """FLOPs of a token's products with weights, with the fewest real experts."""
    most: Sequence[Line]
    prefill: Line
    decode: Line

    @classmethod
    def of(cls, design: Design, dtype: Dtype, workload: Workload) -> "_Costs":
        context = workload.context_tokens
        num_tokens = context * workload.num_sequences
        return cls(
            weights=memory.weights(design, dtype),
            cache=memory.cache(design, context, workload.cache_dtype),
            training=memory.training(design, num_tokens),
            activations=memory.activations(design, num_tokens),
            fewest=flops.matmuls(design, most=False),
            most=flops.matmuls(design, most=True),
            prefill=flops.pairs(design, context, decode=False),
            decode=flops.pairs(design, context, decode=True),
        )

    @property
    def lines(self) -> list[Line]:
        """In reporting order, without those that are nothing; FLOPs with the most experts."""
        lines = [
            *self.weights,
            *self.cache,
            *self.training.values(),
            *self.activations.values(),
            *self.most,
            self.prefill,
            self.decode,
        ]
        return [line for line in lines if line.value]


def _memory(design: Design, dtype: Dtype, workload: Workload, costs: _Costs) -> dict[str, Any]:
    groups, widths = parameter_groups(design), bytes_per_parameter(dtype)
    group_bytes = {name: count * widths[name] for name, count in groups.items()}
    mtp_bytes = group_bytes.pop("mtp")
    per_token, beyond, per_sequence, state = (line.value for line in costs.cache)
    return {
        "dtype": dtype,
        "weight_bytes": sum(group_bytes.values()),
        "weight_bytes_by_dtype": {
            name: sum(
                count * bytes_per_parameter(name)[group]
                for group, count in groups.items()
                if group != "mtp"
            )
            for name in _DTYPES
        },
        "ngram_table_bytes": group_bytes["ngram_tables"],
        "mtp_bytes": mtp_bytes,
        "group_bytes": group_bytes,
        "bytes_per_parameter": widths,
        "kv_cache": {
            "dtype": workload.cache_dtype,
            "bytes_per_token": per_token,
            "bytes_per_token_beyond_windows": beyond,
            "bytes_per_sequence": per_sequence,
            "state_bytes_per_sequence": state,
            "bytes": workload.num_sequences * (per_sequence + state),
        },
        "training": {
            "dense_bytes": costs.training["dense"].value,
            "table_bytes": {
                name: line.value for name, line in costs.training.items() if name != "dense"
            },
            "activation_bytes": {name: line.value for name, line in costs.activations.items()},
        },
    }


def _flops(workload: Workload, costs: _Costs) -> dict[str, Any]:
    """Fewest and most differ where zero experts can take the place of real ones. Backward is twice
    forward, nothing computed again.
    """
    matmuls = {
        "min": sum(line.value for line in costs.fewest),
        "max": sum(line.value for line in costs.most),
    }
    forward = {
        bound: workload.context_tokens * value + costs.prefill.value
        for bound, value in matmuls.items()
    }
    return {
        "matmuls_per_token": matmuls,
        "attention_of_context": costs.prefill.value,
        "attention_of_next_token": costs.decode.value,
        "decode_token": {bound: value + costs.decode.value for bound, value in matmuls.items()},
        "forward_of_context": forward,
        "backward_of_context": {bound: 2 * value for bound, value in forward.items()},
    }


def _placement(
    design: Design, dtype: Dtype, traffic: dict[str, int], workload: Workload
) -> dict[str, Any] | None:
    """What each kind of memory could feed; None without tables."""
    if not design.ngrams:
        return None
    reads = TableReads(
        table_bytes=parameter_groups(design)["ngram_tables"]
        * bytes_per_parameter(dtype)["ngram_tables"],
        rows_per_token=traffic["rows_per_token"],
        bytes_per_row=traffic["bytes_per_row"],
    )
    window_s = None if workload.window_us is None else workload.window_us / 10**6
    fed = [feed(tier, reads, window_s=window_s) for tier in TIERS]
    return {
        "tiers": [
            {
                "name": one.tier.name,
                "fits": one.fits,
                "bytes_moved_per_token": float(one.bytes_per_token),
                "seconds_per_token": one.seconds_per_token,
                "bound_by": one.bound_by,
                "max_tokens_per_s": one.max_tokens_per_s,
                "max_batch_tokens": one.max_batch_tokens,
                "validated": is_validated(one.tier),
                "anchors": [
                    {
                        "name": anchor.name,
                        "source": anchor.source,
                        "slow_down": anchor.slow_down,
                        "predicted": anchor.predicted,
                    }
                    for anchor in anchors(one.tier)
                ],
                "source": one.tier.source,
            }
            for one in fed
        ],
    }


def _parallel(design: Design, dtype: Dtype, workload: Workload) -> dict[str, Any]:
    """What every rank of each pipeline stage holds."""
    ranks = workload.ranks
    stages = [
        _stage(stage, dtype, workload, -(-workload.num_sequences // ranks.dp))
        for stage in split(design, ranks)
    ]
    return {
        "num_ranks": ranks.num_ranks,
        "largest_rank_bytes": max(stage["weight_bytes"] + stage["cache_bytes"] for stage in stages),
        "stages": stages,
    }


def _stage(stage: Stage, dtype: Dtype, workload: Workload, num_sequences: int) -> dict[str, Any]:
    widths = bytes_per_parameter(dtype)
    group_bytes = {
        group: count * widths[group] for group, count in stage.parameters.items() if count
    }
    attentions = [(copies, block) for copies, layer in stage.layers for block in layer.attentions]
    per_sequence = memory.cache_of(attentions, workload.context_tokens, workload.cache_dtype)
    kept = sum(line.value for line in per_sequence[2:])
    return {
        "num_layers": sum(copies for copies, _ in stage.layers),
        "weight_bytes": sum(group_bytes.values()),
        "cache_bytes": num_sequences * kept,
        "group_bytes": group_bytes,
        "table_rows": stage.table_rows,
        "int32_share": stage.table_rows / MAX_TABLE_ROWS,
    }


def _traffic(design: Design, dtype: Dtype) -> dict[str, int]:
    """What one token reads from the tables: one row of each."""
    width = bytes_per_parameter(dtype)["ngram_tables"]
    row_bytes = [design.table_width(spec) * width for spec in design.ngrams]
    return {
        "rows_per_token": sum(spec.num_tables for spec in design.ngrams),
        "bytes_per_row": max(row_bytes, default=0),
        "bytes_per_token": sum(
            spec.num_tables * size for spec, size in zip(design.ngrams, row_bytes, strict=True)
        ),
    }
