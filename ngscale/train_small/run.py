"""All arms over all seeds, interleaved, within the time: inputs -> RunRecord."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ngscale.console import Advance, progress, say
from ngscale.design import Design, decoder_config
from ngscale.errors import InputError, ResourceError, SpecError, UsageError
from ngscale.params import parameter_groups, total_parameters
from ngscale.records import RunRecord
from ngscale.tokens import TokenStream
from ngscale.train_small.cells import CellStore
from ngscale.train_small.comparison import Comparison, compare, inconclusive_reasons
from ngscale.train_small.config import DESIGN_ARM, TRAINING, Arm, Training, make_arms
from ngscale.train_small.data import Blocks, cut_blocks
from ngscale.train_small.distributed import (
    World,
    agreed,
    join_world,
    leave_world,
    local_device,
    share,
    wait_for_all,
)
from ngscale.train_small.loop import OutOfTimeError, RunResult, train
from ngscale.train_small.memory import check_memory
from ngscale.train_small.plan import ArmCost, measure, plan_steps
from ngscale.train_small.run_log import RunLog, Tracker, Trackio
from ngscale.train_small.trainer import Trainer
from ngscale.units import format_count, format_share

_MAX_TOTAL_GAP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    design: Design
    stream: TokenStream
    source: dict[str, Any]
    """Corpus and tokenizer with their hashes, for the record."""
    num_seeds: int
    hours: float
    """Bound on the whole run, unless ``tokens`` is given."""
    tokens: int | None
    """Training tokens per run."""
    device: str
    """``auto``, ``cpu`` or ``cuda``."""
    training: Training = TRAINING
    compiled: bool = False
    """Whether the layers run through ``torch.compile``."""
    track: str | None = None
    """The trackio project that every run is reported to."""


def train_small(request: Request, store: CellStore) -> RunRecord:
    """Train every arm over every seed and compare them.

    Both arms of a pair share the seed: the same batches in the same order, and equal initial
    weights wherever both have the tensor (``model/initialise.py``).

    Raises:
        InputError: the corpus or tokenizer does not fit the design.
        NoResultError: a loss is not finite.
        ResourceError: the time does not hold one run of every arm.
    """
    job = plan_job(request, store)
    record = make_record(job, _run_cells(job))
    leave_world(job.world)
    return record


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        UsageError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device; use --device cpu")
    return local_device(name)


def checked_arms(design: Design) -> tuple[Arm, ...]:
    """The arms, once their totals are known to be comparable.

    Raises:
        InputError: the design cannot be trained here, or experts are too big to match its total.
    """
    try:
        arms = make_arms(design)
    except SpecError as error:
        raise InputError(str(error)) from error
    totals = {arm.name: total_parameters(arm.design) for arm in arms}
    gap = abs(totals["equivalent-moe"] / totals[DESIGN_ARM] - 1)
    if gap > _MAX_TOTAL_GAP:
        raise InputError(
            f"no whole number of experts brings the MoE within {format_share(_MAX_TOTAL_GAP)} of "
            f"the design's {totals[DESIGN_ARM]:,} parameters (nearest {totals['equivalent-moe']:,})"
            "; change moe_intermediate_size or table_rows"
        )
    return arms


def make_blocks(request: Request) -> Blocks:
    """Join the documents and cut them, once ids are known to fit the design.

    Raises:
        InputError: an id has no row in the embedding, or the corpus is too small.
    """
    model, spec = request.design.model, request.design.ngram
    assert spec is not None
    if request.stream.vocab_size > model.vocab_size:
        raise InputError(
            f"the corpus has {request.stream.vocab_size} ids, the design's vocab_size is "
            f"{model.vocab_size}; use the design's own --tokenizer"
        )
    separator = spec.policy.boundary_tokens[0] if spec.policy.boundary_tokens else 0
    if separator >= model.vocab_size:
        raise InputError(f"eos_token_id {separator} is not below vocab_size {model.vocab_size}")
    training = request.training
    return cut_blocks(
        request.stream,
        separator=separator,
        seq_len=training.seq_len,
        held_out_frac=training.held_out_frac,
        section_tokens=training.section_tokens,
        min_train=training.batch_size,
    )


def shared_inputs(request: Request, device: torch.device) -> dict[str, Any]:
    """What every run is a function of, next to its arm, seed, number of tokens and of ranks."""
    return {
        "corpus": request.stream.sha256(),
        "tokenizer": request.source.get("tokenizer", {}).get("sha256"),
        "training": asdict(request.training),
        "device": device.type,
        "compiled": request.compiled,
        "num_threads": torch.get_num_threads() if device.type == "cpu" else None,
        "torch": torch.__version__,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request with all that its runs need."""

    request: Request
    arms: tuple[Arm, ...]
    blocks: Blocks
    device: torch.device
    world: World
    store: CellStore
    inputs: dict[str, Any]
    num_steps: int
    """Per run, the same for every arm and seed."""
    run_s: dict[str, float]
    """Expected seconds of one run of each arm."""
    deadline: float
    """A ``time.monotonic()``; infinite where ``tokens`` is given."""

    @property
    def num_tokens(self) -> int:
        """Training tokens per run."""
        return self.num_steps * self.request.training.tokens_per_step


def plan_job(request: Request, store: CellStore) -> Job:
    """Check what was asked for, measure every arm, settle the number of steps."""
    start = time.monotonic()
    per_step = request.training.tokens_per_step
    if request.tokens is not None and request.tokens < per_step:
        raise UsageError(f"--tokens {request.tokens}: one step takes {per_step}")
    device = pick_device(request.device)
    if request.compiled and device.type != "cuda":
        raise UsageError(
            "--compile: is for --device cuda; on a CPU it compiles longer than it saves"
        )
    arms = checked_arms(request.design)
    blocks = make_blocks(request)
    inputs = shared_inputs(request, device)
    world = join_world(device)
    share(request.training.batch_size, world)
    for arm in arms:
        check_memory(arm, request.training, world, device)
        if world.is_first:
            say(_arm_line(arm))
    costs = [
        measure(arm, blocks, request.training, device, world=world, compiled=request.compiled)
        for arm in arms
    ]
    deadline = math.inf if request.tokens is not None else start + 3600 * request.hours
    num_steps = int(agreed(_num_steps(request, store, inputs, costs, deadline), world))
    run_s = [cost.run_s(num_steps, request.training) for cost in costs]
    job = Job(
        request=request,
        arms=arms,
        blocks=blocks,
        device=device,
        world=world,
        store=store,
        inputs=inputs,
        num_steps=num_steps,
        run_s={arm.name: seconds for arm, seconds in zip(arms, run_s, strict=True)},
        deadline=deadline,
    )
    _tell(job, _plan_line(job))
    return job


def _num_steps(
    request: Request,
    store: CellStore,
    inputs: dict[str, Any],
    costs: Sequence[ArmCost],
    deadline: float,
) -> int:
    per_step = request.training.tokens_per_step
    if request.tokens is not None:
        return request.tokens // per_step
    plan_inputs = {
        **inputs,
        "design": decoder_config(request.design),
        "hours": request.hours,
        "num_seeds": request.num_seeds,
    }
    num_steps = store.load_plan(plan_inputs)
    if num_steps is None:
        num_steps = plan_steps(
            costs,
            num_seeds=request.num_seeds,
            remaining_s=deadline - time.monotonic(),
            training=request.training,
        )
        store.save_plan(plan_inputs, num_steps)
    return num_steps


Results = dict[tuple[str, int], RunResult]


def _run_cells(job: Job) -> Results:
    """Seed by seed, every arm; a seed that the time cuts short is left out as a whole."""
    results: Results = {}
    speeds: dict[str, list[float]] = {arm.name: [] for arm in job.arms}
    num_seeds = job.request.num_seeds
    total = num_seeds * len(job.arms) * job.num_steps
    shown = progress("training steps", total) if job.world.is_first else _unseen()
    with shown as advance:
        for seed in range(num_seeds):
            try:
                of_seed = {
                    (arm.name, seed): _run_cell(job, arm, seed, speeds[arm.name], advance)
                    for arm in job.arms
                }
            except OutOfTimeError:
                _tell(job, f"the time is up: {seed} of {num_seeds} seeds are finished")
                break
            results |= of_seed
    if not results:
        raise ResourceError(
            f"{job.request.hours} hours passed before one seed of every arm was finished; "
            "give more --hours, or the same command with --out to take up finished runs"
        )
    for name, measured in speeds.items():
        if measured:
            _tell(
                job, f"{name}: {sum(measured) / len(measured):,.0f} tokens/s, evaluations included"
            )
    return results


def _tell(job: Job, line: str) -> None:
    if job.world.is_first:
        say(line)


@contextmanager
def _unseen() -> Iterator[Advance]:
    """The progress of a rank that does not speak."""

    def advance(steps: int = 1, /) -> None:
        pass

    yield advance


def _run_cell(job: Job, arm: Arm, seed: int, speeds: list[float], advance: Advance) -> RunResult:
    identity = {
        **job.inputs,
        "design": decoder_config(arm.design),
        "seed": seed,
        "tokens": job.num_tokens,
    }
    inputs = {**identity, "num_ranks": job.world.size}
    finished = job.store.load(arm, seed, inputs)
    if finished is not None:
        _tell(job, f"{arm.name}, seed {seed}: finished before")
        advance(job.num_steps)
        return finished
    if agreed(time.monotonic() + job.run_s[arm.name] - job.deadline, job.world) > 0:
        raise OutOfTimeError
    start = time.monotonic()
    trainer = Trainer(
        arm,
        job.blocks,
        seed=seed,
        num_steps=job.num_steps,
        training=job.request.training,
        device=job.device,
        world=job.world,
        compiled=job.request.compiled,
    )
    # The number of threads and ranks may change the last bits, and not what is trained.
    identity = {key: value for key, value in identity.items() if key != "num_threads"}
    result = train(
        trainer,
        deadline=job.deadline,
        advance=advance,
        checkpoints=job.store.checkpoints(arm, seed, identity, job.world),
        log=RunLog(job.store.log_path(arm, seed), _tracker(job, arm, seed, identity)),
        orders=_orders(job.request.design),
    )
    speeds.append(job.num_tokens / (time.monotonic() - start))
    trainer.finish()
    if job.world.is_first:
        job.store.save(arm, seed, inputs, trainer.decoder, result)
    _tell(job, f"{arm.name}, seed {seed}: {result.val_loss_nats:.4f} nats/token held out")
    wait_for_all(job.world)
    return result


def _orders(design: Design) -> tuple[int, ...]:
    """The orders of the design's tables: every arm's loss is split by them."""
    return tuple(sorted({order for spec in design.ngrams for order in spec.table_orders}))


def _tracker(job: Job, arm: Arm, seed: int, identity: dict[str, Any]) -> Tracker | None:
    if job.request.track is None or not job.world.is_first:
        return None
    return Trackio(job.request.track, f"{arm.name}-seed{seed}", identity)


def _arm_line(arm: Arm) -> str:
    total = total_parameters(arm.design)
    groups = parameter_groups(arm.design)
    tables = groups["ngram_tables"] + groups["ngram_projections"]
    return (
        f"{arm.name}: {total:,} parameters, {arm.active_parameters:,} active per token, "
        f"{format_share(tables / total)} in n-gram tables and projections"
    )


def _plan_line(job: Job) -> str:
    request = job.request
    epochs = job.num_tokens / job.blocks.num_train_tokens
    minutes = sum(job.run_s.values()) * request.num_seeds / 60
    bound = (
        "" if request.tokens is not None else f", within {60 * request.hours:.1f} minutes in all"
    )
    return (
        f"plan: {len(job.arms)} arms x {request.num_seeds} seeds x {job.num_tokens:,} tokens "
        f"({job.num_steps} steps, {epochs:.2f} epochs), about {minutes:.1f} minutes{bound}"
    )


def make_record(job: Job, results: Results) -> RunRecord:
    """Losses -> comparisons -> verdict."""
    request, arms, num_tokens = job.request, job.arms, job.num_tokens
    seeds = sorted({seed for _, seed in results})
    losses = {arm.name: [results[arm.name, seed].val_loss_nats for seed in seeds] for arm in arms}
    comparisons = [
        compare(arm.name, losses[DESIGN_ARM], losses[arm.name])
        for arm in arms
        if arm.name != DESIGN_ARM
    ]
    reasons = inconclusive_reasons(
        comparisons,
        num_seeds=len(seeds),
        tokens_per_active_parameter=num_tokens / arms[0].active_parameters,
    )
    return RunRecord(
        verb="train-small",
        answer=answer_line(comparisons, reasons, num_seeds=len(seeds), num_tokens=num_tokens),
        inputs={
            **job.inputs,
            **request.source,
            "design": decoder_config(request.design),
            "hours": request.hours if request.tokens is None else None,
            "tokens": num_tokens,
            "seeds": seeds,
            "num_ranks": job.world.size,
        },
        results={
            "arms": [_arm_entry(arm) for arm in arms],
            "runs": [
                _run_entry(request.stream, arm, seed, num_tokens, results[arm.name, seed])
                for seed in seeds
                for arm in arms
            ],
            "comparisons": [
                {"num_seeds": len(seeds), "unit": "nats/token", **asdict(item)}
                for item in comparisons
            ],
            "verdict": {"conclusive": not reasons, "reasons": reasons},
        },
    )


def _arm_entry(arm: Arm) -> dict[str, Any]:
    groups = parameter_groups(arm.design)
    return {
        "name": arm.name,
        "total_parameters": total_parameters(arm.design),
        "active_parameters": arm.active_parameters,
        "groups": {name: count for name, count in groups.items() if count},
        "config": decoder_config(arm.design),
    }


def _run_entry(
    stream: TokenStream, arm: Arm, seed: int, num_tokens: int, result: RunResult
) -> dict[str, Any]:
    return {
        "arm": arm.name,
        "seed": seed,
        "tokens": num_tokens,
        "val_loss_nats": result.val_loss_nats,
        "val_bits_per_byte": bits_per_byte(result.val_loss_nats, stream),
        "train_curve": [list(point) for point in result.train_curve],
        "val_curve": [list(point) for point in result.val_curve],
        "val_by_seen": [asdict(item) for item in result.val_by_seen],
    }


def bits_per_byte(loss_nats: float, stream: TokenStream) -> float | None:
    """``loss / ln 2 * tokens / bytes``, at the corpus's own tokens per byte.

    Unlike nats/token it compares across tokenizers. None where the corpus came as ids.
    """
    if not stream.num_bytes:
        return None
    return loss_nats / math.log(2) * stream.num_tokens / stream.num_bytes


def answer_line(
    comparisons: Sequence[Comparison], reasons: Sequence[str], *, num_seeds: int, num_tokens: int
) -> str:
    """One sentence: the verdict first, then each comparison."""
    parts = "; ".join(_comparison_phrase(item) for item in comparisons)
    scale = f"{num_seeds} seed{'s' if num_seeds > 1 else ''} x {format_count(num_tokens)} tokens"
    if reasons:
        return f"Smoke test, cannot conclude ({'; '.join(reasons)}). {scale}: {parts}."
    return f"{scale}: {parts}."


def _comparison_phrase(item: Comparison) -> str:
    interval = "no interval"
    if item.low is not None and item.high is not None:
        interval = f"95% interval {item.low:+.4f} to {item.high:+.4f}"
    return (
        f"design {item.verdict} against {item.baseline}: held-out loss {item.mean_difference:+.4f} "
        f"nats/token ({interval})"
    )
