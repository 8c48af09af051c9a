"""All tensors of a run by name, out to a checkpoint and back in.

``model.*`` is the decoder's state dict, ``adamw.*`` the moments of the backbone,
``rows.<table>.<rank>.*`` those of the rows that a rank has seen, by rows counted over all ranks,
``run.loss_sum`` what adds up on the device. A table's rows are one tensor, in as many shards as
ranks.
"""

import re
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from ngscale.model.run_checkpoint import Saved, check_sizes, load_tensors, sizes
from ngscale.train_small.distributed import World
from ngscale.train_small.optimiser import Optimiser
from ngscale.train_small.row_table import RowTable, row_tables
from ngscale.train_small.trainer import Trainer

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_ROW_STATE = ("rows", "exp_avg", "exp_avg_sq", "steps")


def save_state(trainer: Trainer) -> dict[str, Any]:
    """What a checkpoint of this rank holds."""
    world, tensors = trainer.world, _dense_state(trainer)
    for name, table in row_tables(trainer.decoder):
        tensors[f"model.{name}"] = _sharded(table, world)
        for key, tensor in trainer.optimiser.tables.states[name].tensors().items():
            tensors[f"rows.{name}.{world.rank}.{key}"] = tensor
    return tensors


def load_state(saved: Saved, trainer: Trainer) -> None:
    """Take all of it up, whatever number of ranks wrote it.

    Raises:
        InputError: a file is damaged or of another model.
    """
    found, decoder, optimiser = sizes(saved), trainer.decoder, trainer.optimiser
    _make_moments(optimiser)
    dense = _dense_state(trainer)
    check_sizes(saved, found, dense)
    targets: dict[str, Any] = dict(dense)
    for name, table in row_tables(decoder):
        whole = torch.empty(table.num_rows, table.weight.shape[1], device="meta")
        check_sizes(saved, found, {f"model.{name}": whole})
        targets[f"model.{name}"] = _sharded(table, trainer.world)
    rows = {
        name: torch.empty(size, dtype=dtype)
        for name, (dtype, size) in found.items()
        if name.startswith("rows.")
    }
    world = trainer.world
    load_tensors(saved, targets | rows, group=world.files, alone=world.size == 1)
    for name, _ in row_tables(decoder):
        _load_rows(saved, name, rows, optimiser)


def _dense_state(trainer: Trainer) -> dict[str, Tensor]:
    decoder, optimiser = trainer.decoder, trainer.optimiser
    tables = {name for name, _ in row_tables(decoder)}
    tensors = {
        f"model.{name}": tensor.detach()
        for name, tensor in decoder.state_dict().items()
        if name not in tables
    }
    for name, weight in decoder.named_parameters():
        if name not in tables:
            for key in _MOMENTS:
                tensors[f"adamw.{name}.{key}"] = optimiser.backbone.state[weight][key]
    return tensors | {"run.loss_sum": trainer.loss_sum}


def _make_moments(optimiser: Optimiser) -> None:
    """What AdamW makes at its first step, so that there is something to read into."""
    for weight in optimiser.weights:
        optimiser.backbone.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }


def _sharded(table: RowTable, world: World) -> Tensor:
    weight = table.weight.detach()
    if world.size == 1:
        return weight
    mesh = init_device_mesh(weight.device.type, (world.size,))
    return DTensor.from_local(
        weight,
        mesh,
        [Shard(0)],
        run_check=False,
        shape=torch.Size((table.num_rows, weight.shape[1])),
        stride=(weight.shape[1], 1),
    )


def _load_rows(saved: Saved, name: str, rows: dict[str, Tensor], optimiser: Optimiser) -> None:
    """The state of one table, from each of the ranks that wrote a part."""
    state = optimiser.tables.states[name]
    pattern = re.compile(rf"rows\.{re.escape(name)}\.(\d+)\.rows")
    for rank in sorted(int(m[1]) for key in rows if (m := pattern.fullmatch(key))):
        prefix = f"rows.{name}.{rank}"
        num = len(rows[f"{prefix}.rows"])
        width = state.table.weight.shape[1]
        moments = torch.empty(num, width, device="meta")
        expected = {
            f"{prefix}.rows": torch.empty(num, dtype=torch.int64, device="meta"),
            f"{prefix}.exp_avg": moments,
            f"{prefix}.exp_avg_sq": moments,
            f"{prefix}.steps": torch.empty(num, dtype=torch.int32, device="meta"),
        }
        found = {key: (tensor.dtype, tensor.shape) for key, tensor in rows.items()}
        check_sizes(saved, found, expected)
        state.load({key: rows[f"{prefix}.{key}"] for key in _ROW_STATE}, f"{saved.path}: {prefix}")
