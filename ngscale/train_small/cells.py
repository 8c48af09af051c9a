"""Finished runs on disk, one directory per (arm, seed), so that a re-run takes up where it was.

``<out>/plan.json`` keeps the number of steps that ``--hours`` gave; ``<out>/runs/<arm>-seed<n>/``
holds config.json and model.safetensors, and run.json, written last: it says that the run is
finished, from which inputs, and with which result.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ngscale.errors import InputError
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.records import dump_json, write_atomic
from ngscale.train_small.config import Arm
from ngscale.train_small.loop import RunResult


class CellStore:
    """The cells under ``out``; without ``out`` nothing is read and nothing kept."""

    def __init__(self, out: Path | None) -> None:
        self.out = out

    def load_plan(self, inputs: Mapping[str, Any]) -> int | None:
        """Steps per run of an earlier plan; None where there is none.

        Raises:
            InputError: the plan was made from other inputs.
        """
        if self.out is None:
            return None
        path = self.out / "plan.json"
        saved = _read_json(path)
        if saved is None:
            return None
        _refuse_differing(path, saved, inputs)
        num_steps: int = saved["num_steps"]
        return num_steps

    def save_plan(self, inputs: Mapping[str, Any], num_steps: int) -> None:
        """Keep the plan, so that the same command later trains as many steps."""
        if self.out is not None:
            document = {"inputs": dict(inputs), "num_steps": num_steps}
            write_atomic(self.out / "plan.json", dump_json(document).encode())

    def load(self, arm: Arm, seed: int, inputs: Mapping[str, Any]) -> RunResult | None:
        """The result of a finished cell; None where there is none.

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
        result = saved["result"]
        return RunResult(
            val_loss_nats=result["val_loss_nats"],
            train_curve=tuple((tokens, loss) for tokens, loss in result["train_curve"]),
            val_curve=tuple((tokens, loss) for tokens, loss in result["val_curve"]),
        )

    def save(
        self, arm: Arm, seed: int, inputs: Mapping[str, Any], decoder: Decoder, result: RunResult
    ) -> None:
        """Keep checkpoint and result of a finished cell."""
        if self.out is None:
            return
        directory = self._directory(self.out, arm, seed)
        save_decoder(decoder, arm.design, directory)
        document = {
            "inputs": dict(inputs),
            "result": {
                "val_loss_nats": result.val_loss_nats,
                "train_curve": result.train_curve,
                "val_curve": result.val_curve,
            },
        }
        write_atomic(directory / "run.json", dump_json(document).encode())

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
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read; remove it to train again: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: holds no JSON object; remove it to train again")
    return document
