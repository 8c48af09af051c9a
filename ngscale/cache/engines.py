"""What engines let one set: which flag puts table rows where, as their own threads say."""

from typing import NamedTuple


class EngineFlag(NamedTuple):
    """One documented switch."""

    engine: str
    flag: str
    model_types: tuple[str, ...]
    """``model_type`` of the config.json it is for."""
    effect: str
    source: str
    sized: bool = False
    """Whether it takes the size of a cache of rows, in MB."""


_ENGRAM = ("deepseek_v41",)
_QWEN = ("qwen4_exp",)

FLAGS = (
    EngineFlag(
        engine="vLLM",
        flag="VLLM_PLE_CPU_OFFLOAD=0 or 1 (cpu_offload of EngramConfig)",
        model_types=_ENGRAM,
        effect="1, the default: every row in pinned host memory, read by the GPU and prefetched",
        source="vllm-project/vllm#57910",
    ),
    EngineFlag(
        engine="vLLM",
        flag="--engram-config '{\"cpu_offload\": true}', or VLLM_PLE_CPU_OFFLOAD=1",
        model_types=_QWEN,
        effect="every row in pinned host memory, read by the GPU; by default on the GPUs",
        source="vllm-project/vllm#54371",
    ),
    EngineFlag(
        engine="vLLM",
        flag="--engram-config '{\"embedding_across_dp\": true}'",
        model_types=_QWEN,
        effect="rows sharded over all TP x DP ranks; by default over the TP ranks of each replica",
        source="vllm-project/vllm#54371",
    ),
    EngineFlag(
        engine="SGLang",
        flag="SGLANG_ENABLE_DSV41_ENGRAM_HOST_TABLE=1",
        model_types=_ENGRAM,
        effect="every row in host memory; by default rows are sharded over the TP group",
        source="sgl-project/sglang#39666",
    ),
    EngineFlag(
        engine="SGLang",
        flag="--ple-offload-embedding",
        model_types=_QWEN,
        effect="every row in pinned host memory",
        source="sgl-project/sglang#39928",
    ),
    EngineFlag(
        engine="llama.cpp",
        flag="-ot per_layer_token_embd=CPU -lm mmap",
        model_types=_QWEN,
        effect="the file is mapped: the system's page cache decides which rows are in host memory",
        source="0xBakeer/inference-atlas#34",
    ),
    EngineFlag(
        engine="exllamav3",
        flag="-ngr (--ngram_ram)",
        model_types=_QWEN,
        effect="every row in host memory; by default rows are read from disk in every forward",
        source="theroyallab/tabbyAPI#474",
    ),
    EngineFlag(
        engine="MTPLX",
        flag="MTPLX_NGRAM_HOT_MB",
        model_types=_QWEN,
        effect="a cache of the rows used last, before a file on disk; it begins empty",
        source="youssofal/MTPLX#449",
        sized=True,
    ),
)
