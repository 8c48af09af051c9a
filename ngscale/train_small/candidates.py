"""What a target on the command line means: designs to train, shrunk where they are too big."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale import presets
from ngscale.config_reader import read_config
from ngscale.design import Design, read_design
from ngscale.errors import InputError, NoResultError, SpecError, UsageError
from ngscale.ngram_config import DECODER_MODEL_TYPE
from ngscale.params import most_active
from ngscale.proxy import proxy
from ngscale.proxy_size import ProxySize
from ngscale.train_small.config import DEFAULT_DESIGN, DEFAULT_TOKENIZER


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink:
    """When and how far designs are shrunk."""

    most_active: int
    """Active parameters above which a design is too big."""
    proxy_size: ProxySize


CPU_SHRINK = Shrink(most_active=20_000_000, proxy_size=ProxySize(active_parameters=1_000_000))
CUDA_SHRINK = Shrink(most_active=500_000_000, proxy_size=ProxySize(active_parameters=10_000_000))


def shrink_to(device: str, active: int | None) -> Shrink:
    """What a device can train, or no more than ``active``."""
    if active is not None:
        return Shrink(most_active=active, proxy_size=ProxySize(active_parameters=active))
    return CUDA_SHRINK if device == "cuda" else CPU_SHRINK


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A design to train against its own parameter-equivalent MoE."""

    name: str = ""
    """Of several; empty where it is the only one."""
    design: Design
    shrunk: dict[str, Any] | None = None
    """What its proxy keeps and loses, where it was too big."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Candidates that share a corpus."""

    candidates: tuple[Candidate, ...]
    tokenizer: str
    """To use where none is named."""
    left_out: tuple[str, ...] = ()
    """A clause for each file of the directory that is no candidate."""


def read_target(target: str | None, shrink: Shrink) -> Target:
    """A design, or every design of a directory.

    A directory with a config.json is one model; with ``configs/`` it is what ``budget --out``
    wrote, and ``configs/design.json`` is the proxy; of any other one every NAME.json and
    NAME/config.json is a candidate, but for those without tables and those whose tables have one
    row.

    Raises:
        InputError: no such file, no candidate, or a config that cannot be read or shrunk.
        UsageError: a single design has no tables.
    """
    if target is None:
        return Target(candidates=(Candidate(design=DEFAULT_DESIGN),), tokenizer=DEFAULT_TOKENIZER)
    directory = Path(target)
    if target not in presets.all_names() and directory.is_dir():
        if (directory / "configs").is_dir():
            directory /= "configs"
        if (directory / "design.json").is_file():
            return _single(directory / "design.json", shrink)
        if not (directory / "config.json").is_file():
            return _several(directory, shrink)
    return _single(presets.resolve(target), shrink)


def _single(path: Path, shrink: Shrink) -> Target:
    design = read_design(path)
    if not design.ngrams:
        raise UsageError(f"{path}: this design has no n-gram tables, so nothing to compare")
    candidate = _candidate("", path, design, shrink)
    beside = path.parent / "tokenizer.json"
    if candidate.shrunk is None and beside.is_file():
        return Target(candidates=(candidate,), tokenizer=str(beside))
    return Target(candidates=(candidate,), tokenizer=_embedded(candidate))


def _several(directory: Path, shrink: Shrink) -> Target:
    candidates, left_out = [], []
    for name, path in _configs(directory):
        if "model_type" not in read_config(path).values:
            left_out.append(f"{path}: has no model_type")
            continue
        design = read_design(path)
        if not design.ngrams:
            left_out.append(f"{path}: has no n-gram tables")
        elif all(set(spec.table_rows) == {1} for spec in design.ngrams):
            left_out.append(f"{path}: has tables of one row, a placebo")
        else:
            candidates.append(_candidate(name, path, design, shrink))
    if not candidates:
        raise InputError(f"{directory}: holds no config.json of a design with n-gram tables")
    sizes = {candidate.design.model.vocab_size for candidate in candidates}
    if len(sizes) > 1:
        raise InputError(
            f"{directory}: candidates share one corpus, but have vocab_size "
            f"{', '.join(map(str, sorted(sizes)))}"
        )
    return Target(
        candidates=tuple(candidates),
        tokenizer=_embedded(candidates[0]),
        left_out=tuple(left_out),
    )


def _configs(directory: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(directory.iterdir()):
        if path.suffix == ".json":
            yield path.stem, path
        elif (path / "config.json").is_file():
            yield path.name, path / "config.json"


def _embedded(candidate: Candidate) -> str:
    return f"bpe-{candidate.design.model.vocab_size}"


def _candidate(name: str, path: Path, design: Design, shrink: Shrink) -> Candidate:
    own = design.model.model_type == DECODER_MODEL_TYPE
    active = most_active(design)
    if own and active <= shrink.most_active:
        return Candidate(name=name, design=design)
    try:
        found = proxy(design, shrink.proxy_size)
    except (SpecError, NoResultError) as error:
        why = f"has {active:,} active parameters" if own else f"is a {design.model.model_type}"
        raise InputError(f"{path}: {why} and cannot be shrunk: {error}") from error
    return Candidate(name=name, design=found.design, shrunk=found.account)
