"""Finished runs on disk, one directory per (arm, seed), so that a re-run takes up where it was.

``<out>/plan.json`` keeps the number of steps that ``--hours`` gave, ``pilot.json`` the number of
seeds that the pilot asked for; ``<out>/runs/<arm>-seed<n>/`` holds log.jsonl, checkpoints/ while
the run lasts (longer where asked for), then config.json and model.safetensors, and run.json,
written last: it says that the run is finished, from which inputs, and with which result.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ngscale import strict_json
from ngscale.errors import InputError
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.records import dump_json, write_atomic
from ngscale.train_small.checkpoint import Checkpoints
from ngscale.train_small.config import Arm
from ngscale.train_small.distributed import ALONE, World
from ngscale.train_small.loop import RunResult
from ngscale.train_small.run_log import LOG_NAME
from ngscale.train_small.seen import SeenLoss
from ngscale.train_small.usage import LayerLoad, TableUse, Use


class Cell(NamedTuple):
    """What a finished run gave."""

    run: RunResult
    use: Use


class CellStore:
    """The cells under ``out``; without ``out`` nothing is read and nothing kept.

    Among ranks, all see the same directory and the first writes.
    """

    def __init__(
        self,
        out: Path | None,
        *,
        checkpoint_every: int = 200,
        keep_checkpoints: int = 2,
        keep_finished: bool = False,
        keep_weights: bool = True,
    ) -> None:
        """``keep_finished``: the checkpoints stay when the run is finished; ``keep_weights``: so do
        its weights.
        """
        self.out = out
        self.keep_weights = keep_weights
        self.checkpoint_every = checkpoint_every
        self.keep_checkpoints = keep_checkpoints
        self.keep_finished = keep_finished

    def checkpoints(
        self, arm: Arm, seed: int, identity: Mapping[str, Any], world: World = ALONE
    ) -> Checkpoints | None:
        """The checkpoints of a cell that is not finished."""
        if self.out is None:
            return None
        return Checkpoints(
            self._directory(self.out, arm, seed) / "checkpoints",
            identity=identity,
            every=self.checkpoint_every,
            keep=self.keep_checkpoints,
            world=world,
        )

    def log_path(self, arm: Arm, seed: int) -> Path | None:
        """The log of a cell."""
        return None if self.out is None else self._directory(self.out, arm, seed) / LOG_NAME

    def load_plan(self, inputs: Mapping[str, Any], name: str = "plan") -> int | None:
        """A number that was settled before any result was known; None where there is none.

        Raises:
            InputError: it was settled from other inputs.
        """
        if self.out is None:
            return None
        path = self.out / f"{name}.json"
        saved = _read_json(path)
        if saved is None:
            return None
        _refuse_differing(path, saved, inputs)
        planned: int = saved["planned"]
        return planned

    def save_plan(self, inputs: Mapping[str, Any], planned: int, name: str = "plan") -> None:
        """Keep it, so that the same command later plans the same."""
        if self.out is not None:
            document = {"inputs": dict(inputs), "planned": planned}
            write_atomic(self.out / f"{name}.json", dump_json(document).encode())

    def load(self, arm: Arm, seed: int, inputs: Mapping[str, Any]) -> Cell | None:
        """A finished cell; None where there is none.

        Raises:
            InputError: the cell was made from other inputs.
        """
        if self.out is None:
            return None
        path = self._directory(self.out, arm, seed) / "run.json"
        saved = _read_json(path)
        if saved is None:
            return None
        _refuse_differing(path, saved, inputs)
        result, use = saved["result"], saved["use"]
        run = RunResult(
            val_loss_nats=result["val_loss_nats"],
            train_curve=tuple((tokens, loss) for tokens, loss in result["train_curve"]),
            val_curve=tuple((tokens, loss) for tokens, loss in result["val_curve"]),
            val_by_seen=tuple(SeenLoss(**item) for item in result["val_by_seen"]),
        )
        return Cell(
            run,
            Use(
                tables=tuple(TableUse(**item) for item in use["tables"]),
                layers=tuple(LayerLoad(**item) for item in use["layers"]),
                tokens_per_s=use["tokens_per_s"],
            ),
        )

    def save(
        self, arm: Arm, seed: int, inputs: Mapping[str, Any], decoder: Decoder, cell: Cell
    ) -> None:
        """Keep weights and result of a finished cell; what it could be resumed from goes, unless
        it is to stay.
        """
        if self.out is None:
            return
        directory = self._directory(self.out, arm, seed)
        if self.keep_weights:
            save_decoder(decoder, arm.design, directory)
        document = {
            "inputs": dict(inputs),
            "result": asdict(cell.run),
            "use": asdict(cell.use),
        }
        write_atomic(directory / "run.json", dump_json(document).encode())
        if not self.keep_finished:
            shutil.rmtree(directory / "checkpoints", ignore_errors=True)

    @staticmethod
    def _directory(out: Path, arm: Arm, seed: int) -> Path:
        return out / "runs" / f"{arm.name}-seed{seed}"


def _refuse_differing(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Name the inputs that are not equal, as JSON sees them."""
    plain = json.loads(dump_json(wanted))
    earlier = saved.get("inputs", {})
    if differing := sorted(key for key in plain if earlier.get(key) != plain[key]):
        raise InputError(
            f"{path}: was made with another {', '.join(differing)}; choose another --out"
        )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = strict_json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read; remove it to train again: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: holds no JSON object; remove it to train again")
    return document
