"""``--series``: the kept checkpoints of a train-small run, each probed on the same windows.

A run's directory is ``<out>/runs/<arm>-seed<n>``: checkpoints/ as ``model/run_checkpoint.py`` reads
them, of which only the model's tensors are, and once it is finished the model itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ngscale import strict_json
from ngscale.design import Design, design_of
from ngscale.errors import InputError, NoResultError, UsageError
from ngscale.model.checkpoint import CONFIG_NAME, load_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.run_checkpoint import (
    DOCUMENT,
    Saved,
    check_sizes,
    load_tensors,
    read_document,
    sizes,
    whole_checkpoints,
)
from ngscale.probe.advice import DROWNED_BELOW
from ngscale.probe.amplify import LossMeter
from ngscale.probe.memory import memory_errors
from ngscale.probe.norms import PerToken, StreamNorms, measure
from ngscale.probe.numbers import rounded, window_interval
from ngscale.probe.sentence import LABELS, percent, times
from ngscale.probe.structure import find_structure
from ngscale.probe.summary import over_tokens
from ngscale.probe.windows import Windows
from ngscale.records import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One state of the model."""

    step: int
    saved: Saved | None
    """None: the finished model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run as it lies on disk."""

    directory: Path
    name: str
    """``<arm>-seed<n>``, with the candidate's name in front where there are several."""
    design: Design
    seed: int
    tokens_per_step: int
    points: tuple[Point, ...]
    """In the order of steps."""


def find_run(directory: Path) -> Run:
    """What is kept of a run; no tensor is read.

    Raises:
        InputError: no checkpoints were kept, one is damaged, or they are of several designs.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; --series takes a run of train-small")
    found = [
        Saved(path=path, document=read_document(path / DOCUMENT))
        for path in whole_checkpoints(directory / "checkpoints")
    ]
    if not found:
        raise InputError(
            f"{directory}: holds no checkpoints/step-*; --series takes a run of train-small "
            "(<out>/runs/<arm>-seed<n>), trained with --keep-checkpoints N"
        )
    identities = {saved.path / DOCUMENT: saved.document["identity"] for saved in found}
    steps = {saved.path / DOCUMENT: saved.step for saved in found}
    points = [Point(step=saved.step, saved=saved) for saved in found]
    finished = directory / "run.json"
    if finished.is_file():
        identities[finished] = _finished(finished)
        per_step = _tokens_per_step(finished, identities[finished])
        steps[finished] = _whole(finished, identities[finished], "tokens") // per_step
        points.append(Point(step=steps[finished], saved=None))
    (first, identity), *others = identities.items()
    for path, other in others:
        for key in ("design", "training", "seed"):
            if other.get(key) != identity.get(key):
                raise InputError(f"{path}: {key}: is another than in {first}; not one run")
    resolved = directory.resolve()
    above = resolved.parent.name
    return Run(
        directory=directory,
        name=resolved.name if above == "runs" else f"{above}/{resolved.name}",
        design=_design(first, identity),
        seed=_whole(first, identity, "seed", minimum=0),
        tokens_per_step=_tokens_per_step(first, identity),
        points=tuple(sorted(points, key=lambda point: point.step)),
    )


def _finished(path: Path) -> Mapping[str, Any]:
    try:
        inputs = strict_json.loads(path.read_bytes())["inputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a finished run: {error}") from error
    if not isinstance(inputs, dict):
        raise InputError(f"{path}: inputs: must be an object")
    return inputs


def _design(path: Path, identity: Mapping[str, Any]) -> Design:
    config = identity.get("design")
    if not isinstance(config, dict):
        raise InputError(f"{path}: identity.design: must be a config.json")
    return design_of(config, f"{path}: identity.design")


def _tokens_per_step(path: Path, identity: Mapping[str, Any]) -> int:
    training = identity.get("training")
    if not isinstance(training, dict):
        raise InputError(f"{path}: training: must be an object")
    return _whole(path, training, "batch_size") * _whole(path, training, "seq_len")


def _whole(path: Path, values: Mapping[str, Any], key: str, minimum: int = 1) -> int:
    value = values.get(key)
    if type(value) is not int or value < minimum:
        raise InputError(f"{path}: {key}: must be a whole number from {minimum}, got {value!r}")
    return value


def probe_series(
    run: Run,
    windows: Windows,
    described: Mapping[str, Any],
    *,
    device: torch.device,
    done: Callable[[], object],
) -> RunRecord:
    """Every point on the same windows; ``done`` is called after each window.

    Raises:
        InputError: a checkpoint is damaged or of another design.
        NoResultError: a stream does not close, or is not finite.
    """
    series = []
    with memory_errors(str(run.directory)):
        decoder = Decoder(run.design).to(device).eval()
        structure = find_structure(decoder, str(run.directory))
        for point in run.points:
            _take(decoder, run, point)
            meter = LossMeter(decoder)
            try:
                norms = measure(structure, meter, windows.ids, device=device, done=done)
            except NoResultError as error:
                raise NoResultError(f"{run.directory}: step {point.step}: {error}") from error
            series.append(_entry(run, point, norms, meter.losses))
    ngram = run.design.ngram
    model = {
        "name": run.name,
        "seed": run.seed,
        "amplification": "none" if ngram is None else ngram.amplification,
        "hidden_size": run.design.model.hidden_size,
        "num_tables": 0 if ngram is None else ngram.num_tables,
        "tokens_per_step": run.tokens_per_step,
    }
    return RunRecord(
        verb="probe",
        answer=_answer(model, series),
        inputs={"model": model, **described, "dtype": "float32", "device": device.type},
        results={"series": series, "drowned_below": DROWNED_BELOW},
    )


def _take(decoder: Decoder, run: Run, point: Point) -> None:
    """Read the weights of one point into the decoder."""
    if point.saved is None:
        finished, design = load_decoder(run.directory)
        if design != run.design:
            raise InputError(f"{run.directory / CONFIG_NAME}: is of another design than the run")
        decoder.load_state_dict(finished.state_dict())
        return
    targets = {f"model.{name}": tensor for name, tensor in decoder.state_dict().items()}
    check_sizes(point.saved, sizes(point.saved), targets)
    load_tensors(point.saved, targets)


def _entry(run: Run, point: Point, norms: StreamNorms, losses: Sequence[float]) -> dict[str, Any]:
    attention, mlp = (
        next(s for s in norms.sublayers if s.kind == kind) for kind in ("attention", "mlp")
    )
    return {
        "step": point.step,
        "tokens": point.step * run.tokens_per_step,
        "is_finished": point.saved is None,
        "attention_ratio": _numbers(attention.write / attention.stream),
        "mlp_ratio": _numbers(mlp.write / mlp.stream),
        "embedding_share": _numbers(norms.shares[0].share),
        "embedding_norm": _numbers(norms.embed),
        "loss": {"mean_nats": rounded(np.mean(losses)), "interval": window_interval(losses)},
        "closure": rounded(asdict(norms.closure)),
    }


def _numbers(values: PerToken) -> dict[str, Any]:
    """Over tokens, and the interval of the windows' medians; first positions left out."""
    medians = [float(np.median(window)) for window in values[:, 1:]]
    return {**over_tokens(values), "interval": window_interval(medians)}


def _answer(model: Mapping[str, Any], series: Sequence[Mapping[str, Any]]) -> str:
    first, last = series[0], series[-1]
    below = [p for p in series if p["embedding_share"]["median"] < DROWNED_BELOW]
    most = max(series, key=lambda p: float(p["attention_ratio"]["median"]))
    return (
        f"{model['name']} (amplification: {LABELS[model['amplification']]}): from step "
        f"{first['step']:,} to {last['step']:,} the first attention goes from "
        f"{times(first['attention_ratio']['median'])} to "
        f"{times(last['attention_ratio']['median'])} the stream it is added to (most: "
        f"{times(most['attention_ratio']['median'])} at step {most['step']:,}), and the "
        f"embedding from {percent(first['embedding_share']['median'])} to "
        f"{percent(last['embedding_share']['median'])} of the stream after the first layer; it is "
        f"drowned (below {percent(DROWNED_BELOW)}) at {len(below)} of {len(series)} points."
    )


def add_other_series(record: RunRecord, other: RunRecord) -> RunRecord:
    """``record`` with another run's series under ``against``.

    Raises:
        UsageError: they did not read the same tokens.
    """
    theirs = other.inputs["model"]["name"]
    for key in ("texts", "window"):
        if record.inputs[key] != other.inputs[key]:
            raise UsageError(
                f"--against: {theirs} was not read with the same tokens; --tokenizer takes one "
                "that fits both"
            )
    against = {"model": other.inputs["model"], "series": other.results["series"]}
    return replace(
        record,
        answer=f"{record.answer} Against: {other.answer}",
        results={**record.results, "against": against},
    )
