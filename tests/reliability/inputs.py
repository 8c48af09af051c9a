"""Small inputs of every verb."""

from pathlib import Path

from tests.commands.test_decode import small
from tests.plan.small import write_config, write_text

ANALYSES: dict[str, tuple[str, ...]] = {
    "collisions": ("--corpus", "{text}", "--sizes", "65537,65521", "--orders", "2:3"),
    "audit": ("{config}",),
    "budget": ("{config}",),
    "ids": ("{config}", "--tokens", "5,6,7,8"),
    "probe": ("{checkpoint}", "--tables"),
    "cache": (
        *("{config}", "--corpus", "{text}", "--tokenizer", "bpe-4096"),
        *("--tokens", "600"),
    ),
}
"""A short run of every verb that analyses; names in braces are files of ``write_inputs``."""
SHORT_RUNS: dict[str, tuple[str, ...]] = {
    **ANALYSES,
    "decode": (
        *("{checkpoint}", "--corpus", "{text}", "--device", "cpu", "--draft", "lookup"),
        *("--sequences", "2", "--batch", "2", "--new-tokens", "4", "--prompt-tokens", "8"),
    ),
    "train-small": (
        *("{config}", "--corpus", "{text}", "--tokens", "2048", "--device", "cpu"),
        "--dry-run",
    ),
    "plan": ("{config}", "--corpus", "{text}", "--hours", "1", "--device", "cpu", "--dry-run"),
}
"""... and of the others."""
OTHER_REPORTS: dict[str, tuple[str, ...]] = {
    "collisions sweep": ("--corpus", "{text}", "--step", "997", "--orders", "2:3"),
    "collisions recommend": (
        *("{config}", "--recommend", "--corpus", "{text}", "--tokenizer", "bpe-4096"),
    ),
    "budget trade": ("longcat-flash-lite", "--host-memory", "1T"),
}
"""Runs of the same verbs whose reports are others."""


def write_inputs(directory: Path) -> None:
    """A config.json with tables, a checkpoint of 4,096 ids, a text."""
    write_config(directory)
    write_text(directory)
    small(directory / "checkpoint")


def filled(arguments: tuple[str, ...], directory: Path) -> list[str]:
    """``arguments`` with the paths of the inputs in ``directory``."""
    paths = {
        "config": str(directory / "narrow" / "config.json"),
        "text": str(directory / "text.txt"),
        "checkpoint": str(directory / "checkpoint"),
    }
    return [argument.format(**paths) for argument in arguments]
