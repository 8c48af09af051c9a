"""LongCat-Flash-Lite's parameters from the names and shapes of its checkpoint, beside its config.

The published layout (tensor names and shapes of the safetensors; 11,160 tensors, 137 GB) is written
as headers over sparse files, which take no room, and read as any checkpoint is.

    python -m reports.lite_shapes --out reports/DATE-budget-lite
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

from ngscale import budget, presets
from ngscale.design import read_design
from ngscale.records import RunRecord, environment
from ngscale.safetensors_header import read_headers
from tests.safetensors_files import write_sharded

PRESET = "longcat-flash-lite"
NUM_SHARDS = 40

Tensors = dict[str, tuple[str, list[int]]]


def lite_tensors() -> Tensors:
    """HASHING 9.1: every text tensor and the 17 of ``model.mtp``, bf16, routers fp32."""

    def attention(prefix: str, between: str = "") -> Tensors:
        shapes = {
            "q_a_proj": [1536, 3072],
            "q_a_layernorm": [1536],
            "q_b_proj": [6144, 1536],
            "kv_a_proj_with_mqa": [576, 3072],
            "kv_a_layernorm": [512],
            "kv_b_proj": [8192, 512],
            "o_proj": [3072, 4096],
        }
        return {
            f"{prefix}.self_attn{between}.{name}.weight": ("BF16", shape)
            for name, shape in shapes.items()
        }

    def ffn(prefix: str, width: int) -> Tensors:
        shapes = {"gate_proj": [width, 3072], "up_proj": [width, 3072], "down_proj": [3072, width]}
        return {f"{prefix}.{name}.weight": ("BF16", shape) for name, shape in shapes.items()}

    def norms(*names: str) -> Tensors:
        return {f"{name}.weight": ("BF16", [3072]) for name in names}

    tensors: Tensors = {
        "model.embed_tokens.weight": ("BF16", [131072, 3072]),
        "lm_head.weight": ("BF16", [131072, 3072]),
        **norms("model.norm"),
    }
    for table in range(12):
        prefix = "model.ngram_embeddings"
        rows = 10223617 + 2 * table
        tensors[f"{prefix}.embedders.{table}.weight"] = ("BF16", [rows, 256])
        tensors[f"{prefix}.post_projs.{table}.weight"] = ("BF16", [3072, 256])
    for layer in range(14):
        prefix = f"model.layers.{layer}"
        for half in range(2):
            tensors |= attention(prefix, f".{half}")
            tensors |= ffn(f"{prefix}.mlps.{half}", 6144)
            tensors |= norms(
                f"{prefix}.input_layernorm.{half}", f"{prefix}.post_attention_layernorm.{half}"
            )
        for expert in range(256):
            tensors |= ffn(f"{prefix}.mlp.experts.{expert}", 1024)
        router = f"{prefix}.mlp.router"
        tensors[f"{router}.classifier.weight"] = ("F32", [384, 3072])
        tensors[f"{router}.e_score_correction_bias"] = ("F32", [384])
    mtp = "model.mtp.layers.0"
    tensors |= {
        "model.mtp.embed_tokens.weight": ("BF16", [131072, 3072]),
        f"{mtp}.eh_proj.weight": ("BF16", [3072, 6144]),
        **norms(
            *("model.mtp.norm", f"{mtp}.input_layernorm", f"{mtp}.post_attention_layernorm"),
        ),
        f"{mtp}.enorm.m.weight": ("BF16", [3072]),
        f"{mtp}.hnorm.m.weight": ("BF16", [3072]),
    }
    return tensors | attention(mtp) | ffn(f"{mtp}.transformer_layer.mlp", 6144)


def write_headers(directory: Path) -> None:
    """The layout in shards without data, and their index."""
    tensors = list(lite_tensors().items())
    shards = {
        f"model-{part:05d}.safetensors": dict(tensors[part::NUM_SHARDS])
        for part in range(NUM_SHARDS)
    }
    write_sharded(directory, shards)


def measure() -> RunRecord:
    """The budget of the preset with the checkpoint's headers."""
    path = presets.resolve(PRESET)
    with tempfile.TemporaryDirectory() as directory:
        write_headers(Path(directory))
        return budget.build(
            read_design(path),
            target=PRESET,
            config_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            dtype="bf16",
            tensors=read_headers(Path(directory)),
            explain=True,
        )


def main() -> None:
    """Write the report."""
    from ngscale.report import write_report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    record = measure()
    made = {"program": ["python", "-m", "reports.lite_shapes"], **environment(sys.argv[1:])}
    write_report(budget.report(record), record, made, given.out)
    print(record.answer)


if __name__ == "__main__":
    main()
