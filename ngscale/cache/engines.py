"""What engines let one set: which flag puts table rows where, as their own threads say."""

from typing import NamedTuple


class EngineFlag(NamedTuple):
    """One documented switch."""

    engine: str
    flag: str
    models: str
    effect: str
    source: str


FLAGS = (
    EngineFlag(
        engine="vLLM",
        flag="VLLM_PLE_CPU_OFFLOAD=0 or 1 (cpu_offload of EngramConfig)",
        models="DeepSeek-V4.1",
        effect="1, the default: every row in pinned host memory, read by the GPU and prefetched",
        source="vllm-project/vllm#57910",
    ),
    EngineFlag(
        engine="SGLang",
        flag="SGLANG_ENABLE_DSV41_ENGRAM_HOST_TABLE=1",
        models="DeepSeek-V4.1",
        effect="every row in host memory; by default rows are sharded over the TP group",
        source="sgl-project/sglang#39666",
    ),
    EngineFlag(
        engine="SGLang",
        flag="--ple-offload-embedding",
        models="Qwen3.8 (qwen4_exp)",
        effect="every row in pinned host memory",
        source="sgl-project/sglang#39841",
    ),
)
"""All or nothing: none of these threads names a size of a hot set."""
