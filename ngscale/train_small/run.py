"""All arms over all seeds, interleaved, within the time: inputs -> RunRecord."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ngscale.console import Advance, progress, say
from ngscale.design import Design, decoder_config
from ngscale.errors import InputError, ResourceError, UsageError
from ngscale.model.device import pick_device
from ngscale.params import parameter_groups, total_parameters
from ngscale.records import RunRecord
from ngscale.tokens import TokenStream
from ngscale.train_small.arms import DESIGN_ARM, make_arms
from ngscale.train_small.candidates import Candidate
from ngscale.train_small.cells import Cell, CellStore
from ngscale.train_small.comparison import (
    MARGIN_NATS,
    MIN_EQUIVALENCE_SEEDS,
    Comparison,
    Pair,
    compare_all,
    inconclusive_reasons,
    seeds_needed,
)
from ngscale.train_small.config import TRAINING, Arm, Training
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
from ngscale.train_small.loop import OutOfTimeError, train
from ngscale.train_small.memory import check_memory
from ngscale.train_small.plan import (
    USABLE_FRAC,
    ArmCost,
    measure,
    plan_record,
    plan_row,
    plan_steps,
)
from ngscale.train_small.run_log import RunLog, Tracker, Trackio
from ngscale.train_small.trainer import Trainer
from ngscale.train_small.usage import Use, layer_loads, table_use
from ngscale.units import format_bytes, format_count, format_duration, format_share

PILOT_SEEDS = (0, 1)
"""Their losses only tell how many seeds to take; those begin behind them."""
_MAX_PLANNED_SEEDS = 32
_DEFAULT_HOURS = {"cpu": 0.15, "cuda": 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    candidates: tuple[Candidate, ...]
    stream: TokenStream
    source: dict[str, Any]
    """Corpus and tokenizer with their hashes, for the record."""
    num_seeds: int | None
    """None: a pilot of two seeds tells."""
    hours: float | None
    """Bound on the whole run, unless ``tokens`` is given; None: what the device is good for."""
    tokens: int | None
    """Training tokens per run."""
    device: str
    """``auto``, ``cpu`` or ``cuda``."""
    extra_arms: tuple[str, ...] = ()
    """See ``EXTRA_ARMS``."""
    margin: float = MARGIN_NATS
    """Of equivalence, in nats/token."""
    training: Training = TRAINING
    compiled: bool = False
    """Whether the layers run through ``torch.compile``."""
    track: str | None = None
    """The trackio project that every run is reported to."""

    @property
    def design(self) -> Design:
        """That of the first candidate: all have its vocabulary."""
        return self.candidates[0].design


def run_job(job: "Job") -> tuple[RunRecord, dict[str, float]]:
    """Train every arm over every seed: the record, and tokens/s by arm, which are no part of it.

    Both arms of a pair share the seed: the same batches in the same order, and equal initial
    weights wherever both have the tensor (``model/initialise.py``).

    Raises:
        NoResultError: a loss is not finite.
        ResourceError: the time does not hold one run of every arm.
    """
    _tell(job, plan_line(job))
    pilot = _pilot(job)
    cells = run_cells(job, pilot.seeds if pilot else tuple(range(job.planned_seeds)))
    speeds: dict[str, list[float]] = {arm.name: [] for arm in job.arms}
    for (name, _), cell in cells.items():
        speeds[name].append(cell.use.tokens_per_s)
    means = {name: statistics.fmean(of_arm) for name, of_arm in speeds.items()}
    for name, mean in means.items():
        _tell(job, f"{name}: {mean:,.0f} tokens/s, evaluations included")
    record = make_record(job, cells, pilot)
    leave_world(job.world)
    return record, means


def training_device(name: str) -> torch.device:
    """That of this process: of several on a machine each has a CUDA device of its own.

    Raises:
        UsageError: CUDA was asked for and is not there.
    """
    return local_device(pick_device(name).type)


def make_blocks(request: Request) -> Blocks:
    """Join the documents and cut them, once ids are known to fit the design.

    Raises:
        InputError: an id has no row in the embedding, or the corpus is too small.
    """
    model, spec = request.design.model, request.design.ngrams[0]
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
    costs: dict[str, ArmCost]
    """Of every arm."""
    deadline: float
    """A ``time.monotonic()``; infinite where ``tokens`` is given."""
    hours: float | None
    """What bounds it."""

    @property
    def num_tokens(self) -> int:
        """Training tokens per run."""
        return self.num_steps * self.request.training.tokens_per_step

    @property
    def planned_seeds(self) -> int:
        """As many as asked for, or what a pilot is likely to ask for."""
        if self.request.num_seeds is not None:
            return self.request.num_seeds
        return len(PILOT_SEEDS) + MIN_EQUIVALENCE_SEEDS

    def run_s(self, arm: Arm) -> float:
        """Expected seconds of one run."""
        return self.costs[arm.name].run_s(self.num_steps, self.request.training)

    @property
    def seed_s(self) -> float:
        """Expected seconds of one seed of every arm."""
        return sum(self.run_s(arm) for arm in self.arms)


def plan_job(request: Request, store: CellStore) -> Job:
    """Check what was asked for, measure every arm, settle the number of steps.

    Raises:
        InputError: the corpus or tokenizer does not fit the design.
        ResourceError: an arm does not fit the memory, or the time not one step of every arm.
        UsageError: the device is not there, or does not go with another option.
    """
    start = time.monotonic()
    per_step = request.training.tokens_per_step
    if request.tokens is not None and request.tokens < per_step:
        raise UsageError(f"--tokens {request.tokens}: one step takes {per_step}")
    device = training_device(request.device)
    hours = None
    if request.tokens is None:
        hours = request.hours or _DEFAULT_HOURS[device.type]
    if request.compiled and device.type != "cuda":
        raise UsageError(
            "--compile: is for --device cuda; on a CPU it compiles longer than it saves"
        )
    arms = tuple(
        arm
        for one in request.candidates
        for arm in make_arms(one.design, request.extra_arms, candidate=one.name)
    )
    blocks = make_blocks(request)
    inputs = shared_inputs(request, device)
    world = join_world(device)
    share(request.training.batch_size, world)
    for arm in arms:
        check_memory(arm, request.training, world, device)
        if world.is_first:
            say(_arm_line(arm))
    costs = {
        arm.name: measure(
            arm, blocks, request.training, device, world=world, compiled=request.compiled
        )
        for arm in arms
    }
    job = Job(
        request=request,
        arms=arms,
        blocks=blocks,
        device=device,
        world=world,
        store=store,
        inputs=inputs,
        num_steps=0,
        costs=costs,
        deadline=math.inf if hours is None else start + 3600 * hours,
        hours=hours,
    )
    job = replace(job, num_steps=int(agreed(_num_steps(job), world)))
    for arm in arms:
        _tell(job, _arm_plan_line(job, arm))
    return job


def expected_tokens(request: Request, hours: float) -> tuple[int, float]:
    """Training tokens per run that the time holds, and hours that one more token per run takes.

    By a few real steps of the first design, as if every arm cost as much.

    Raises:
        ResourceError: the time does not hold one run of every arm.
    """
    assert request.num_seeds is not None
    device, blocks, training = (
        training_device(request.device),
        make_blocks(request),
        request.training,
    )
    arms = make_arms(request.design, request.extra_arms)
    world = join_world(device)
    cost = measure(arms[0], blocks, training, device, world=world, compiled=request.compiled)
    num_steps = plan_steps(
        [cost] * len(arms),
        num_seeds=request.num_seeds,
        remaining_s=3600 * hours,
        training=training,
    )
    step_hours = len(arms) * request.num_seeds * cost.step_s / USABLE_FRAC / 3600
    return num_steps * training.tokens_per_step, step_hours / training.tokens_per_step


def _num_steps(job: Job) -> int:
    request = job.request
    if request.tokens is not None:
        return request.tokens // request.training.tokens_per_step
    inputs = _plan_inputs(job)
    num_steps = job.store.load_plan(inputs)
    if num_steps is None:
        num_steps = plan_steps(
            list(job.costs.values()),
            num_seeds=job.planned_seeds,
            remaining_s=job.deadline - time.monotonic(),
            training=request.training,
        )
        job.store.save_plan(inputs, num_steps)
    return num_steps


def _plan_inputs(job: Job) -> dict[str, Any]:
    """What is settled before the first run, and stays so when the command is run again."""
    return {
        **job.inputs,
        "arms": {arm.name: decoder_config(arm.design) for arm in job.arms},
        "hours": job.hours,
        "tokens": job.request.tokens,
        "num_seeds": job.request.num_seeds,
        "margin": job.request.margin,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """Two seeds, and what they ask for."""

    sd: float
    """The largest sd of the paired differences, nats/token."""
    needed: int
    """Seeds that would tell the margin from nothing."""
    num_seeds: int
    """Seeds that are taken: as many, or as the time holds."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that are compared."""
        first = len(PILOT_SEEDS)
        return tuple(range(first, first + self.num_seeds))


def _pilot(job: Job) -> Pilot | None:
    if job.request.num_seeds is not None:
        return None
    cells = run_cells(job, PILOT_SEEDS)
    if any((arm.name, PILOT_SEEDS[-1]) not in cells for arm in job.arms):
        raise ResourceError("--seeds auto: the time does not hold its pilot; give more --hours")
    pairs = _pairs(job, cells, PILOT_SEEDS)
    sd = max(item.sd or 0.0 for item in compare_all(pairs, margin=job.request.margin))
    needed = seeds_needed(sd, job.request.margin)
    inputs = _plan_inputs(job)
    num_seeds = job.store.load_plan(inputs, "pilot")
    if num_seeds is None:
        fit = (job.deadline - time.monotonic()) / job.seed_s if job.hours else math.inf
        num_seeds = int(agreed(max(1.0, min(needed, _MAX_PLANNED_SEEDS, fit)), job.world))
        job.store.save_plan(inputs, num_seeds, "pilot")
    _tell(job, f"pilot: sd of the differences {sd:.4f}, {needed} seeds needed, {num_seeds} taken")
    return Pilot(sd=sd, needed=needed, num_seeds=num_seeds)


Results = dict[tuple[str, int], Cell]


def run_cells(job: Job, seeds: Sequence[int]) -> Results:
    """Seed by seed, every arm; a seed that the time cuts short is left out as a whole."""
    results: Results = {}
    total = len(seeds) * len(job.arms) * job.num_steps
    shown = progress("training steps", total) if job.world.is_first else _unseen()
    with shown as advance:
        for finished, seed in enumerate(seeds):
            try:
                of_seed = {(arm.name, seed): _run_cell(job, arm, seed, advance) for arm in job.arms}
            except OutOfTimeError:
                _tell(job, f"the time is up: {finished} of {len(seeds)} seeds are finished")
                break
            results |= of_seed
    if not results:
        raise ResourceError(
            f"{job.hours} hours passed before one seed of every arm was finished; "
            "give more --hours, or the same command with --out to take up finished runs"
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


def _run_cell(job: Job, arm: Arm, seed: int, advance: Advance) -> Cell:
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
    if agreed(time.monotonic() + job.run_s(arm) - job.deadline, job.world) > 0:
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
    tokens_per_s = job.num_tokens / (time.monotonic() - start)
    trainer.finish()
    use = Use(tables=table_use(trainer), layers=layer_loads(trainer), tokens_per_s=tokens_per_s)
    cell = Cell(result, use)
    if job.world.is_first:
        job.store.save(arm, seed, inputs, trainer.decoder, cell)
    _tell(job, f"{arm.name}, seed {seed}: {result.val_loss_nats:.4f} nats/token held out")
    wait_for_all(job.world)
    return cell


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


def _arm_plan_line(job: Job, arm: Arm) -> str:
    cost = job.costs[arm.name]
    return (
        f"{arm.name}: {cost.step_s:.3f} s a step, {format_duration(job.run_s(arm))} a run, "
        f"{format_bytes(cost.memory_bytes)} at the peak"
    )


def plan_line(job: Job) -> str:
    """What is about to run."""
    epochs = job.num_tokens / job.blocks.num_train_tokens
    minutes = job.seed_s * job.planned_seeds / 60
    bound = "" if job.hours is None else f", within {60 * job.hours:.1f} minutes in all"
    seeds = f"{job.planned_seeds} seeds"
    if job.request.num_seeds is None:
        seeds += f" ({len(PILOT_SEEDS)} of them a pilot that may ask for more)"
    return (
        f"plan: {len(job.arms)} arms x {seeds} x {job.num_tokens:,} tokens "
        f"({job.num_steps} steps, {epochs:.2f} epochs), about {minutes:.1f} minutes{bound}"
    )


def planned(job: Job) -> RunRecord:
    """What ``--dry-run`` answers."""
    rows = [
        plan_row(
            arm,
            job.costs[arm.name],
            num_steps=job.num_steps,
            num_seeds=job.planned_seeds,
            training=job.request.training,
        )
        for arm in job.arms
    ]
    leave_world(job.world)
    return plan_record(rows, answer=plan_line(job), inputs=_plan_inputs(job))


def _pairs(job: Job, cells: Results, seeds: Sequence[int]) -> list[Pair]:
    """The design of every candidate against each of its other arms."""
    losses = {
        arm.name: [cells[arm.name, seed].run.val_loss_nats for seed in seeds] for arm in job.arms
    }
    return [
        Pair(_role(arm, one), losses[_arm_name(one, DESIGN_ARM)], losses[arm.name], one.name)
        for one in job.request.candidates
        for arm in _arms_of(job, one)
        if _role(arm, one) != DESIGN_ARM
    ]


def _arms_of(job: Job, candidate: Candidate) -> list[Arm]:
    return [arm for arm in job.arms if arm.name.startswith(_arm_name(candidate, ""))]


def _arm_name(candidate: Candidate, role: str) -> str:
    return f"{candidate.name}/{role}" if candidate.name else role


def _role(arm: Arm, candidate: Candidate) -> str:
    return arm.name.removeprefix(_arm_name(candidate, ""))


def make_record(job: Job, cells: Results, pilot: Pilot | None = None) -> RunRecord:
    """Losses -> comparisons -> verdict."""
    request, num_tokens = job.request, job.num_tokens
    seeds = sorted({seed for _, seed in cells})
    comparisons = compare_all(_pairs(job, cells, seeds), margin=request.margin)
    active = max(one.active_parameters for one in job.arms if one.name.endswith(DESIGN_ARM))
    reasons = inconclusive_reasons(
        comparisons,
        num_seeds=len(seeds),
        tokens_per_active_parameter=num_tokens / active,
    )
    parts = {one.name: _results(job, cells, seeds, comparisons, one) for one in request.candidates}
    configs = {one.name: decoder_config(one.design) for one in request.candidates}
    several = len(request.candidates) > 1 or bool(request.candidates[0].name)
    return RunRecord(
        verb="train-small",
        answer=answer_line(comparisons, reasons, num_seeds=len(seeds), num_tokens=num_tokens),
        inputs={
            **job.inputs,
            **request.source,
            **({"designs": configs} if several else {"design": configs[""]}),
            "hours": job.hours,
            "tokens": num_tokens,
            "seeds": seeds,
            "margin_nats": request.margin,
            "num_ranks": job.world.size,
        },
        results={
            **(
                {"candidates": [{"name": name, **part} for name, part in parts.items()]}
                if several
                else parts[""]
            ),
            "pilot": None if pilot is None else asdict(pilot),
            "verdict": {"conclusive": not reasons, "reasons": reasons},
        },
    )


def _results(
    job: Job,
    cells: Results,
    seeds: Sequence[int],
    comparisons: Sequence[Comparison],
    candidate: Candidate,
) -> dict[str, Any]:
    """One candidate's arms by their roles, runs and comparisons."""
    arms = [(_role(arm, candidate), arm) for arm in _arms_of(job, candidate)]
    return {
        "shrunk": candidate.shrunk,
        "arms": [{**_arm_entry(arm), "name": role} for role, arm in arms],
        "runs": [
            _run_entry(job.request.stream, role, seed, job.num_tokens, cells[arm.name, seed])
            for seed in seeds
            for role, arm in arms
        ],
        "comparisons": [
            {"num_seeds": len(seeds), "unit": "nats/token", **asdict(item)}
            for item in comparisons
            if item.candidate == candidate.name
        ],
    }


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
    stream: TokenStream, arm: str, seed: int, num_tokens: int, cell: Cell
) -> dict[str, Any]:
    result = cell.run
    return {
        "arm": arm,
        "seed": seed,
        "tokens": num_tokens,
        "val_loss_nats": result.val_loss_nats,
        "val_bits_per_byte": bits_per_byte(result.val_loss_nats, stream),
        "train_curve": [list(point) for point in result.train_curve],
        "val_curve": [list(point) for point in result.val_curve],
        "val_by_seen": [asdict(item) for item in result.val_by_seen],
        "table_use": [asdict(item) for item in cell.use.tables],
        "layer_loads": [asdict(item) for item in cell.use.layers],
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
        interval = (
            f"95% interval {item.low:+.4f} to {item.high:+.4f}, "
            f"{item.detectable_difference:.4f} detectable"
        )
    return (
        f"{item.candidate or 'design'} {item.verdict} against {item.baseline}: "
        f"held-out loss {item.mean_difference:+.4f} nats/token ({interval})"
    )
