"""What a checkpoint's headers hold, group by group, against what its config.json describes."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ngscale.design import Design
from ngscale.errors import InputError
from ngscale.ngram_config import DECODER_MODEL_TYPE
from ngscale.params import GROUPS, parameter_groups
from ngscale.safetensors_header import TensorHeader
from ngscale.tensor_groups import group_of, is_constant

COPIES, SCALES, CONSTANTS, UNKNOWN = "copies", "scales", "constants", "unknown"
"""What is stored but is no parameter of a design: second copies of the word embedding (LongCat's
MTP and n-gram module, a tied head), scales of quantised weights, indices and frequencies; and names
that fit no group."""
_ASIDE = (COPIES, SCALES, CONSTANTS, UNKNOWN)
_SCALE = re.compile(r"_scale(_inv|s|_2)?$|\.(scales?|input_scale|weight_scale)$")
_PACKED = re.compile(r"_blocks$")
"""gpt-oss: two 4-bit weights in a byte."""


def compare(design: Design, tensors: Mapping[str, TensorHeader]) -> dict[str, Any]:
    """Totals of the checkpoint by group, and every group in which they are not the design's."""
    expected = parameter_groups(design)
    parameters, num_bytes, num_tensors = Counter[str](), Counter[str](), Counter[str]()
    dtypes: dict[str, Counter[str]] = {}
    unknown = []
    for tensor in tensors.values():
        group = _group(design, tensor, tensors)
        if group == UNKNOWN:
            unknown.append(tensor.name)
        parameters[group] += tensor.num_elements * (2 if _PACKED.search(tensor.name) else 1)
        num_bytes[group] += tensor.num_bytes
        num_tensors[group] += 1
        dtypes.setdefault(group, Counter())[tensor.dtype] += tensor.num_bytes
    return {
        "header_sha256": _sha256(tensors),
        "num_files": len({tensor.file for tensor in tensors.values()}),
        "num_tensors": len(tensors),
        "total": sum(parameters[group] for group in GROUPS if group != "mtp"),
        "bytes": sum(num_bytes.values()),
        "groups": [
            {
                "group": group,
                "num_tensors": num_tensors[group],
                "parameters": parameters[group],
                "by_config": expected.get(group),
                "bytes": num_bytes[group],
                "dtypes": dict(sorted(dtypes.get(group, Counter()).items())),
            }
            for group in (*GROUPS, *_ASIDE)
            if num_tensors[group] or expected.get(group)
        ],
        "differences": [
            {"group": group, "difference": parameters[group] - expected.get(group, 0)}
            for group in (*GROUPS, UNKNOWN)
            if parameters[group] != expected.get(group, 0)
        ],
        "unknown_names": sorted(unknown)[:10],
    }


def verdict(block: Mapping[str, Any]) -> str:
    """One sentence on the ``checkpoint`` block of a budget."""
    count = f"{block['num_tensors']:,} tensors in {block['num_files']} files"
    if not block["differences"]:
        return f"The checkpoint ({count}) holds exactly what its config.json describes."
    found = ", ".join(
        f"{entry['group']} {entry['difference']:+,}" for entry in block["differences"]
    )
    return f"The checkpoint ({count}) differs from its config.json: {found} parameters."


def _group(design: Design, tensor: TensorHeader, tensors: Mapping[str, TensorHeader]) -> str:
    name = tensor.name
    if is_constant(name):
        return CONSTANTS
    if _SCALE.search(name):
        return SCALES
    try:
        group = group_of(name, num_layers=design.model.num_layers)
    except InputError:
        return UNKNOWN
    if group == "router_bias" and design.model.model_type == DECODER_MODEL_TYPE:
        return CONSTANTS  # a buffer that balances the load, counted with no parameters there
    return COPIES if _is_copy(design, tensor, group, tensors) else group


def _is_copy(
    design: Design, tensor: TensorHeader, group: str, tensors: Mapping[str, TensorHeader]
) -> bool:
    """Whether this is another word embedding, stored beside the one that counts."""
    model = design.model
    if math.prod(tensor.shape) != model.vocab_size * model.hidden_size:
        return False
    if group == "mtp":
        return tensor.name.endswith(("embed_tokens.weight", "shared_head.head.weight"))
    if group == "lm_head":
        return model.ties_embeddings
    return group == "word_embedding" and (
        "ngram_embeddings." in tensor.name
        and any(
            other.endswith("embed_tokens.weight") and "ngram" not in other and "mtp." not in other
            for other in tensors
        )
    )


def _sha256(tensors: Mapping[str, TensorHeader]) -> str:
    """Of names, types, shapes and files, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, tensor.dtype, tensor.shape, tensor.file)).encode())
    return digest.hexdigest()
