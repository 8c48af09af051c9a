"""Malformed config.json files, each with what its one line of error says."""

import copy
import json
import random
from typing import Any

from ngscale import presets

Config = dict[str, Any]


def preset(name: str) -> Config:
    config: Config = json.loads(presets.resolve(name).read_text())
    return config


LITE = {
    "model_type": "longcat_flash_ngram",
    "vocab_size": 131072,
    "hidden_size": 3072,
    "ngram_vocab_size_ratio": 78,
    "emb_neighbor_num": 4,
    "emb_split_num": 4,
    "eos_token_id": 2,
}
NEXT = preset("longcat-next")
NANBEIGE = LITE | {"model_type": "nanbeige", "ngram_mod_force_prime": True}
V41 = preset("deepseek-v4.1-flash")
DEMO = preset("engram-demo")
QWEN = preset("qwen3.8-flash-next")["text_config"]
OVER = preset("over-encoding-12.8m")
EXPLICIT = preset("modded-nanogpt")


def block(**changes: Any) -> Config:
    """The explicit config with other fields; a value of ``...`` leaves the field out."""
    inner = {**EXPLICIT["ngscale"], **changes}
    kept = {key: value for key, value in inner.items() if value is not ...}
    return {"model_type": "ngscale_ngram", "ngscale": kept}


def policy(**fields: Any) -> Config:
    return block(policy={"start": "reserved_row", "documents": "none", **fields})


def without(config: Config, key: str) -> Config:
    return {name: value for name, value in config.items() if name != key}


def raw(config: Config, key: str, text: str) -> str:
    """The config with ``text`` for a value, as JSON cannot be dumped."""
    return json.dumps({**config, key: "@"}).replace('"@"', text)


BAD_TABLES: list[tuple[Config | str, str]] = [
    # text that is no strict JSON object
    ("", "is not JSON"),
    ('{"vocab_size": 131072', "is not JSON"),
    ("[1]", "holds no JSON object"),
    (json.dumps(LITE)[:-1] + ', "vocab_size": 5}', "vocab_size: appears twice"),
    (raw(LITE, "ngram_vocab_size_ratio", "NaN"), "NaN is not a JSON number"),
    (raw(LITE, "ngram_vocab_size_ratio", "Infinity"), "Infinity is not a JSON number"),
    (raw(LITE, "ngram_vocab_size_ratio", "1e400"), "ngram_vocab_size_ratio: Infinity is not"),
    (raw(LITE, "vocab_size", "1e400"), "vocab_size: Infinity is not a JSON number"),
    (raw(LITE, "vocab_size", "9" * 5000), "is not JSON"),
    # a family that is not known, or two of them
    ({}, "model_type: null"),
    ({"model_type": "llama", "hidden_size": 8, "vocab_size": 9}, 'model_type: "llama"'),
    (LITE | {"model_type": 7}, "model_type: must be a string, got 7"),
    (LITE | {"model_type": None, "architectures": "LongcatCausalLM"}, "architectures: must be a"),
    (LITE | {"oe_grams": [2], "oe_vocab_sizes": [97]}, "oe_grams: belong to different hashes"),
    (LITE | {"engram_layer_ids": [1]}, "engram_layer_ids: belong to different hashes"),
    (QWEN | {"emb_split_num": 4}, "emb_split_num and ple_layer_ids: belong to different"),
    ({"model_type": "longcat_flash_ngram", "text_config": LITE}, "text_config: n-gram keys are"),
    ({"model_type": "qwen4_exp", "text_config": [1]}, "text_config: must be an object, got [1]"),
    ({"model_type": "longcat_flash"}, "this model has no n-gram tables"),
    # LongCat
    (LITE | {"vocab_size": -131072}, "vocab_size: must be 2..2147483647, got -131072"),
    (LITE | {"vocab_size": 0}, "vocab_size: must be 2.."),
    (LITE | {"vocab_size": 1}, "vocab_size: must be 2.."),
    (LITE | {"vocab_size": 2**63}, "vocab_size: must be 2.."),
    (LITE | {"vocab_size": True}, "vocab_size: must be a whole number, got true"),
    (LITE | {"vocab_size": "131072"}, 'vocab_size: must be a whole number, got "131072"'),
    (LITE | {"vocab_size": 131072.0}, "vocab_size: must be a whole number, got 131072.0"),
    (without(LITE, "vocab_size"), "vocab_size: is missing"),
    (without(LITE, "hidden_size"), "hidden_size: is missing"),
    (without(LITE, "emb_split_num"), "emb_split_num or oe_split_num: is missing"),
    (without(LITE, "ngram_vocab_size_ratio"), "ngram_vocab_size_ratio or oe_vocab_size_ratio: is"),
    (LITE | {"emb_neighbor_num": 1}, "emb_neighbor_num: must be 2..8, got 1"),
    (LITE | {"emb_neighbor_num": 9}, "emb_neighbor_num: must be 2..8, got 9"),
    (LITE | {"emb_neighbor_num": None}, "emb_neighbor_num or oe_neighbor_num: is missing"),
    (LITE | {"emb_split_num": 0}, "emb_split_num: must be 1.."),
    (LITE | {"emb_split_num": 2000}, "6000 tables leave no width in hidden_size 3072"),
    (LITE | {"emb_split_num": 5000, "hidden_size": 10**6}, "emb_split_num: must be 1..1365"),
    (LITE | {"ngram_vocab_size_ratio": -78}, "ngram_vocab_size_ratio: must be positive"),
    (LITE | {"ngram_vocab_size_ratio": 0}, "ngram_vocab_size_ratio: must be positive"),
    (LITE | {"ngram_vocab_size_ratio": False}, "ngram_vocab_size_ratio: must be a number"),
    (LITE | {"ngram_vocab_size_ratio": [78]}, "ngram_vocab_size_ratio: must be a number"),
    (LITE | {"ngram_vocab_size_ratio": 16384}, "ngram_vocab_size_ratio: 16384: table rows must"),
    (LITE | {"ngram_vocab_size_ratio": 1e14}, "ngram_vocab_size_ratio: 100000000000000.0: table"),
    (LITE | {"ngram_vocab_size_ratio": 10**30}, "ngram_vocab_size_ratio: must be positive"),
    (
        LITE | {"vocab_size": 2**31 - 1, "emb_neighbor_num": 8, "ngram_vocab_size_ratio": 0.99},
        "ngram_vocab_size_ratio: 0.99: table rows 2126008",
    ),
    (LITE | {"oe_vocab_size_ratio": 78.5}, "ngram_vocab_size_ratio and oe_vocab_size_ratio: dis"),
    (LITE | {"eos_token_id": None}, "eos_token_id: must be a whole number, got null"),
    (LITE | {"eos_token_id": [2, 5]}, "eos_token_id: must be a whole number, got [2, 5]"),
    (LITE | {"eos_token_id": -1}, "eos_token_id: must be 0..131071, got -1"),
    (LITE | {"eos_token_id": 131072}, "eos_token_id: must be 0..131071, got 131072"),
    (without(LITE, "eos_token_id"), "eos_token_id: is missing"),
    (LITE | {"ngscale": None}, "ngscale: must be an object"),
    (LITE | {"ngscale": {"sizes": [1]}}, "ngscale.sizes: is not known"),
    (LITE | {"ngscale": {"table_rows": [97] * 11}}, "12 tables need 12 sizes, got 11"),
    (LITE | {"ngscale": {"table_rows": [97] * 11 + [2**31]}}, "ngscale.table_rows: must be 1.."),
    (LITE | {"ngscale": {"table_rows": 97}}, "ngscale.table_rows: must be a list"),
    (LITE | {"ngscale": {"policy": "sglang"}}, "ngscale.policy: must be an object or hf"),
    (LITE | {"ngscale": {"policy": {"eos": 2}}}, "ngscale.policy.eos: is not known"),
    (LITE | {"ngscale": {"policy": "exclude"}}, "policy exclude needs ignored ids"),
    (LITE | {"ngscale": {"word_scale": 13}}, "word_scale must be one of mean"),
    # LongCat-Next
    (without(NEXT, "oe_ignored_token_ids"), "needs ignored ids (oe_ignored_token_ids)"),
    (NEXT | {"oe_ignored_token_ids": "131072:131125"}, "oe_ignored_token_ids: must be a list"),
    (NEXT | {"oe_ignored_token_ids": [131072, -1]}, "oe_ignored_token_ids: must be 0.."),
    (NEXT | {"oe_ignored_token_ids": [131072, True]}, "oe_ignored_token_ids: must be a whole"),
    (NEXT | {"oe_ignored_token_ids": False}, "oe_ignored_token_ids: must be a list"),
    (NEXT | {"special_token_scope": "131072-131125"}, "special_token_scope: must be like"),
    (NEXT | {"special_token_scope": "55:36"}, "special_token_scope: has an empty range"),
    (NEXT | {"special_token_scope": [0, 4]}, "special_token_scope: must be like"),
    (NEXT | {"text_vocab_size": None}, "text_vocab_size: must be a whole number, got null"),
    # Nanbeige
    (NANBEIGE | {"ngram_mod_force_prime": "yes"}, "ngram_mod_force_prime: must be true or false"),
    (NANBEIGE | {"ngram_fused_mode": "sum"}, "ngram_fused_mode: must be"),
    (NANBEIGE | {"emb_tp_num": 0}, "emb_tp_num: must be 1.."),
    (NANBEIGE | {"ngram_vocab_size_ratio": 10**9}, "ngram_vocab_size_ratio: 1000000000: table"),
    (NANBEIGE | {"ngram_compressed_tokenizer": "x"}, "ngram_compressed_tokenizer: which ids are"),
    # Engram
    (V41 | {"engram_num_embeddings": [384006168, 384016681]}, "engram_num_embeddings: the prime"),
    (V41 | {"engram_layer_ids": [1, 1]}, "engram_layer_ids: names a layer twice, got [1, 1]"),
    (V41 | {"engram_layer_ids": []}, "engram_layer_ids: must be a list of whole numbers"),
    (V41 | {"engram_layer_ids": 1}, "engram_layer_ids: must be a list of whole numbers, got 1"),
    (V41 | {"engram_n_heads": 10**6}, "engram_n_heads: 1000000 makes 6000000 tables"),
    (V41 | {"engram_vocab_size": 2**31 - 1}, "engram_vocab_size: 2147483647: table rows must be"),
    (V41 | {"engram_vocab_size": [16000000] * 3}, "engram_vocab_size: must be a whole number"),
    (V41 | {"engram_max_ngram_size": 1}, "engram_max_ngram_size: must be 2..8, got 1"),
    (V41 | {"engram_seed": -1}, "engram_seed: must be 0.."),
    (V41 | {"ngscale": {"fill": 99092}}, "ngscale.fill: must be 0..99091, got 99092"),
    (without(V41, "ngscale"), "fill is undecided"),
    (without(V41, "engram_compressed_vocab_size"), "engram_compressed_vocab_size: is missing"),
    (DEMO | {"n_embed_per_ngram": 513}, "n_embed_per_ngram: does not divide by 8"),
    (DEMO | {"engram_vocab_size": [646400]}, "engram_vocab_size: orders 2..3 need 2 sizes, got 1"),
    (without(DEMO, "ngscale"), "ngscale.compressed_vocab: is missing"),
    (without(DEMO, "seed"), "seed: is missing"),
    # Qwen
    (QWEN | {"eos_token_id": []}, "eos_token_id: must be a list of whole numbers, got []"),
    (QWEN | {"eos_token_id": [248320]}, "eos_token_id: must be 0..248319, got 248320"),
    (QWEN | {"eos_token_id": ["248044"]}, "eos_token_id: must be a whole number"),
    (without(QWEN, "eos_token_id"), "eos_token_id: is missing"),
    (QWEN | {"ple_embed_dim": 2561}, "ple_embed_dim: 2561 does not divide by 16 heads"),
    (QWEN | {"heads_per_ngram": 7}, "ple_embed_dim: 2560 does not divide by 14 heads"),
    (QWEN | {"heads_per_ngram": 5000}, "heads_per_ngram: 5000 makes 10000 tables"),
    (QWEN | {"ple_layer_ids": [0]}, "ple_layer_ids: must be 1.."),
    (QWEN | {"ple_layer_ids": [2, 61], "num_hidden_layers": 60}, "ple_layer_ids: counts from 1"),
    (QWEN | {"ple_layer_ids": None}, "this model has no n-gram tables"),
    (QWEN | {"ngram_vocab_size_base": 2**31 - 1}, "ngram_vocab_size_base: 2147483647: table rows"),
    (QWEN | {"make_ngram_vocab_size_divisible_by": 0}, "make_ngram_vocab_size_divisible_by: must"),
    (QWEN | {"seed": 1.5}, "seed: must be a whole number, got 1.5"),
    # Over-Encoding
    (OVER | {"oe_vocab_sizes": [12800003]}, "oe_vocab_sizes: needs 4 sizes, got 1"),
    (OVER | {"oe_grams": [2, 2, 3, 9]}, "oe_grams: must be 2..8, got 9"),
    (OVER | {"oe_grams": [2, 2, 3, 1]}, "oe_grams: must be 2..8, got 1"),
    (without(OVER, "oe_grams") | {"model_type": "x"}, 'model_type: "x"'),
    (OVER | {"vocab_size": 2**31 - 1, "oe_vocab_sizes": [2**31 - 1] * 4, "oe_grams": [8] * 4},
     "oe_vocab_sizes: [2147483647, 2147483647, 2147483647, 2147483647]: table rows"),
    # explicit
    ({"model_type": "ngscale_ngram"}, "ngscale.hash: is missing"),
    (block(hash=...), "ngscale.hash: is missing"),
    (block(hash=None), "ngscale.hash: must be an object, got null"),
    (block(hash={"kind": "sha256"}), "ngscale.hash.kind: must be"),
    (block(hash={"kind": "multiply_xor", "multipliers": [2, 3]}), "multipliers must be odd"),
    (block(hash={"kind": "multiply_xor", "multipliers": [3]}), "multipliers: order 2 needs 2"),
    (block(hash={"kind": "polynomial", "base": 1}), "ngscale.hash.base: must be 2.."),
    (block(hash={"kind": "polynomial", "base": 7, "x": 1}), "ngscale.hash.x: is not known"),
    (block(hash={"kind": "multiply_xor", "multipliers": [2**62 + 1, 3]}), "overflows 63 bits"),
    (block(table_orders=[2, 2]), "table_rows: 2 tables need 2 sizes, got 1"),
    (block(table_orders=[9]), "table_orders: must be 1..8, got 9"),
    (block(table_rows=None), "ngscale.table_rows: must be a list of whole numbers, got null"),
    (block(vocab_size="50304"), "ngscale.vocab_size: must be a whole number"),
    (block(reserved_rows=0), "start reserved_row needs one table with reserved_rows 1"),
    (block(reserved_rows=True), "ngscale.reserved_rows: must be a whole number, got true"),
    (block(row_family=["single"]), "row_family must be one of"),
    (block(fusion="stacked"), "fusion must be one of"),
    (block(mystery=1), "ngscale.mystery: is not known"),
    (block(policy=...), "ngscale.policy: is missing"),
    (block(policy=None), "ngscale.policy: must be an object, got null"),
    (policy(fill=50304), "fill: token 50304 is not below 50304"),
    (policy(boundary_tokens=[50304]), "boundary_tokens: token 50304 is not below 50304"),
    (policy(boundary_tokens=None), "ngscale.policy.boundary_tokens: must be a list"),
    (policy(boundary_tokens=2), "ngscale.policy.boundary_tokens: must be a list"),
    (policy(start="row_one"), "ngscale.policy.start: must be one of fill"),
    (policy(ignored_tokens=[[4, 4]], ignored_rule="zero"), "ignored_tokens: 4:4 is not a range"),
    (policy(ignored_tokens=[["4", 5]]), "ngscale.policy.ignored_tokens: must be a list of"),
    (policy(ignored_tokens=[[4, 5, 6]]), "ngscale.policy.ignored_tokens: must be a list of"),
    (policy(ignored_rule="zero"), "ignored_rule zero needs ignored_tokens"),
    (policy(at_boundary="row_zero"), "at_boundary row_zero needs boundary_tokens"),
    (policy(fill=None), "fill is undecided"),
]  # fmt: skip


LLAMA = preset("llama-3.1-8b")
MOE = preset("qwen3-30b-a3b")
MIXTRAL = preset("mixtral-8x7b")
OSS = preset("gpt-oss-20b")
DEEPSEEK = preset("deepseek-v3")
OLMOE = preset("olmoe-1b-7b")
V4 = preset("deepseek-v4-flash")
CHAT = preset("longcat-flash-lite")
GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768,
        "n_layer": 12, "n_head": 12}  # fmt: skip
OURS = {
    "model_type": "ngscale_moe", "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "moe_intermediate_size": 8,
    "num_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip


def nested(depth: int) -> list[Any]:
    """Lists within each other."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


_TEXT = json.dumps(CHAT)
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not JSON"),
    "blanks": (b" \n\t", "is not JSON"),
    "cut short": (_TEXT[:-1].encode(), "is not JSON"),
    "zeros": (bytes(1000), "is not JSON"),
    "a list": (b"[1]", "holds no JSON object"),
    "a string": (b'"model_type"', "holds no JSON object"),
    "a number": (b"78", "holds no JSON object"),
    "null": (b"null", "holds no JSON object"),
    "two objects": (_TEXT.encode() * 2, "is not JSON: Extra data"),
    "a comma too many": ((_TEXT[:-1] + ",}").encode(), "is not JSON"),
    "a comment": (b"{ // sizes\n}", "is not JSON"),
    "single quotes": (str(CHAT).encode(), "is not JSON"),
    "a mark first": (_TEXT.encode("utf-8-sig"), "is not JSON: Unexpected UTF-8 BOM"),
    "UTF-16": (_TEXT.encode("utf-16"), "is not UTF-8 text"),
    "a byte of Latin-1": (_TEXT[:-1].encode() + b', "_name_or_path": "\xe9"}', "is not UTF-8"),
    "a key twice": ((_TEXT[:-1] + ', "vocab_size": 5}').encode(), "vocab_size: appears twice"),
    "a key twice within": (b'{"text_config": {"a": 1, "a": 2}}', "a: appears twice"),
    "NaN": (b'{"rope_theta": NaN}', "NaN is not a JSON number"),
    "5,000 digits": (b'{"vocab_size": ' + b"9" * 5000 + b"}", "is not JSON: Exceeds the limit"),
    "lists within lists": (b"[" * 100_000, "is not JSON"),
    "a value too deep to copy": (
        json.dumps({**CHAT, "quantization_config": nested(200)}).encode(),
        "quantization_config: is nested more than 100 levels deep",
    ),
    "objects within objects": (
        json.dumps(CHAT)[:-1].encode() + b', "id2label": ' + b'{"a":' * 150 + b"1" + b"}" * 151,
        "id2label: is nested more than 100 levels deep",
    ),
}
"""Bytes that no verb takes for a config.json."""
BAD_MODELS: dict[str, tuple[Config, str]] = {
    "no layer": (CHAT | {"num_layers": 0}, "num_layers: must be 1..10000, got 0"),
    "layers beyond memory": (CHAT | {"num_layers": 2**31 - 1}, "num_layers: must be 1..10000"),
    "layers of a list": (OLMOE | {"num_hidden_layers": 10**9}, "num_hidden_layers: must be 1..10"),
    "layers with windows": (LLAMA | {"num_hidden_layers": 10**9}, "num_hidden_layers: must be 1.."),
    "layers of gpt2": (GPT2 | {"n_layer": 2**31 - 1}, "n_layer: must be 1..10000"),
    "layers of ours": (OURS | {"num_hidden_layers": 10**9}, "num_hidden_layers: must be 1..10000"),
    "layers as text": (CHAT | {"num_layers": "14"}, 'num_layers: must be a whole number, got "14"'),
    "layers and a half": (CHAT | {"num_layers": 14.5}, "num_layers: must be a whole number, got 1"),
    "layers in a list": (CHAT | {"num_layers": [14]}, "num_layers: must be a whole number, got [1"),
    "null layers": (CHAT | {"num_layers": None}, "num_layers: must be a whole number, got null"),
    "true layers": (CHAT | {"num_layers": True}, "num_layers: must be a whole number, got true"),
    "layers missing": (without(LLAMA, "num_hidden_layers"), "num_hidden_layers: is missing"),
    "two depths": (CHAT | {"num_hidden_layers": 27}, "num_hidden_layers: 27 contradicts"),
    "more experts a token than lists hold": (
        CHAT | {"moe_topk": 2**30, "n_routed_experts": 2**30, "zero_expert_num": 2**30},
        "moe_topk: must be 1..10000, got 1073741824",
    ),
    "no expert a token": (CHAT | {"moe_topk": 0}, "moe_topk: must be 1..10000, got 0"),
    "more experts than there are": (
        MOE | {"num_experts_per_tok": 129}, "num_experts_per_tok: 129 exceeds num_experts 128"
    ),
    "no experts": (MIXTRAL | {"num_local_experts": 0}, "num_local_experts: must be 1.."),
    "experts missing": (without(OSS, "num_local_experts"), "num_local_experts: is missing"),
    "minus one zero expert": (CHAT | {"zero_expert_num": -1}, "zero_expert_num: must be 0.."),
    "true zero experts": (CHAT | {"zero_expert_num": True}, "zero_expert_num: must be a whole"),
    "half an expert": (CHAT | {"expert_ffn_hidden_size": 0.5}, "expert_ffn_hidden_size: must be"),
    "no width": (LLAMA | {"hidden_size": 0}, "hidden_size: must be 1..2147483647, got 0"),
    "2^31 wide": (LLAMA | {"hidden_size": 2**31}, "hidden_size: must be 1..2147483647, got 21474"),
    "10^30 wide": (LLAMA | {"hidden_size": 10**30}, "hidden_size: must be 1..2147483647, got 1000"),
    "no word": (LLAMA | {"vocab_size": 0}, "vocab_size: must be 1.."),
    "words missing": (without(MOE, "vocab_size"), "vocab_size: is missing"),
    "words as text": (MIXTRAL | {"vocab_size": "32000"}, 'vocab_size: must be a whole number, got'),
    "words of a megabyte": (MIXTRAL | {"vocab_size": "9" * 10**6}, "vocab_size: must be a whole"),
    "no head": (LLAMA | {"num_attention_heads": 0}, "num_attention_heads: must be 1.."),
    "heads that do not divide": (
        LLAMA | {"num_key_value_heads": 3},
        "num_key_value_heads: 3 does not divide num_attention_heads 32",
    ),
    "a negative head": (MOE | {"head_dim": -128}, "head_dim: must be 1..2147483647, got -128"),
    "a rank of null": (CHAT | {"kv_lora_rank": None}, "kv_lora_rank: must be a whole number"),
    "a rank missing": (without(DEEPSEEK, "kv_lora_rank"), "kv_lora_rank: is missing"),
    "windows of words": (LLAMA | {"model_type": "mistral", "sliding_window": "4096"},
                         'sliding_window: must be a whole number, got "4096"'),
    "types of too few layers": (OSS | {"layer_types": ["full_attention"]},
                                "layer_types: must be a list of 24 words"),
    "types of other layers": (OSS | {"layer_types": ["linear"] * 24},
                              'layer_types: must hold full_attention, sliding_attention only, got'),
    "types that are a word": (OSS | {"layer_types": "full"}, "layer_types: must be a list of 24"),
    "a bias of yes": (LLAMA | {"mlp_bias": "yes"}, 'mlp_bias: must be true or false, got "yes"'),
    "a tie of one": (LLAMA | {"tie_word_embeddings": 1}, "tie_word_embeddings: must be true or"),
    "an encoder": (LLAMA | {"is_encoder_decoder": True}, "is_encoder_decoder: true is not under"),
    "an unknown family": ({"model_type": "llama9"}, 'model_type: "llama9"'),
    "a family in a list": (LLAMA | {"model_type": ["llama"]}, "model_type: must be a string"),
    "a family of null": (LLAMA | {"model_type": None}, "model_type: null"),
    "architectures of a word": (
        without(LLAMA, "model_type") | {"architectures": "Llama"}, "architectures: must be a list"
    ),
    "an architecture of a megabyte": (
        {"model_type": "x" * 10**6}, "is not understood; known: "
    ),
    "text that is a list": ({"model_type": "gemma3", "text_config": [1]}, "text_config: must be"),
    "text that is missing": ({"model_type": "gemma3"}, 'model_type: "gemma3"'),
    "text of nothing": (
        {"model_type": "gemma3", "text_config": {}}, "text_config.model_type: null"
    ),
    "a key of another kind": (LLAMA | {"num_experts": 8}, "num_experts: is not known to llama"),
    "a key within": (
        {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **{
            key: LLAMA[key] for key in ("vocab_size", "hidden_size", "intermediate_size",
            "num_hidden_layers", "num_attention_heads", "num_key_value_heads")}, "x_layers": 2}},
        "text_config.x_layers: is not known",
    ),
    "a key with an escape": (LLAMA | {"\x1b[2J": 1}, r"\x1b[2J: is not known to llama"),
    "a key of two lines": (LLAMA | {"a\nerror: b": 1}, r"a\nerror: b: is not known to llama"),
    "a key with half a pair": (LLAMA | {"\ud800": 1}, r"\ud800: is not known to llama"),
    "a key of a megabyte": (LLAMA | {"k" * 10**6: 1}, "kkk...: is not known to llama"),
    "rates of too few layers": (V41 | {"compress_ratios": [0]}, "compress_ratios"),
    "a set of rows too many": (
        CHAT | {"ngscale": {"table_rows": [97] * 13}}, "12 tables need 12 sizes, got 13"
    ),
    "extension without tables": (LLAMA | {"ngscale": {"row_multiple": 8}}, "ngscale: is set, but"),
    "tables said twice": (
        CHAT | {"oe_vocab_size_ratio": 77},
        "ngram_vocab_size_ratio and oe_vocab_size_ratio: disagree; keep one",
    ),
    "tables of 2^31 rows": (CHAT | {"ngram_vocab_size_ratio": 16384}, "table rows must be 1..2147"),
    "a billion tables": (CHAT | {"emb_split_num": 10**9}, "3000000000 tables leave no width"),
    "ignored ids beyond 32 bits": (
        CHAT | {"ngscale": {"policy": {"ignored_tokens": [[0, 10**30]], "ignored_rule": "zero"}}},
        "ignored_tokens: 0:1000000000000000000000000000000 is not a range of ids",
    ),
}  # fmt: skip
"""Objects that describe no model."""


_JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31 - 1, 2**31, 2**64, 10**30, 0.5, 1e300, "", "x", [], [[]], {},
    [None], [-1], [True], [0, 0], {"a": 1},
)  # fmt: skip


def mutated(rng: random.Random, value: Any) -> Any:
    """One place in a JSON value replaced by junk or removed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return without(value, key)
        return {**value, key: mutated(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:index] + value[index + 1 :]
        return [*value[:index], mutated(rng, value[index]), *value[index + 1 :]]
    return copy.deepcopy(rng.choice(_JUNK))
