"""FSDP2 on two processes: outputs and gradients are those of one."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn

from ngscale.model import NgramEmbedding
from ngscale.model.decoder import Decoder
from tests.model.small import DESIGN, SHORTCUT, SPEC

_RANKS = 2


def built(kind: str) -> nn.Module:
    if kind == "embedding":
        embedding = NgramEmbedding(64, 32, SPEC)
        embedding.initialise(0)
        return embedding
    decoder = Decoder(DESIGN if kind == "decoder" else SHORTCUT)
    decoder.initialise(0)
    return decoder


def loss_of(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    if isinstance(model, Decoder):
        loss: torch.Tensor = model(tokens[:, :-1], tokens[:, 1:])
        return loss
    out: torch.Tensor = model(tokens).square().mean()
    return out


def batch() -> torch.Tensor:
    return torch.randint(0, 64, (2 * _RANKS, 13), generator=torch.Generator().manual_seed(0))


def whole(tensor: Any) -> torch.Tensor:
    full: torch.Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full


def run(rank: int, kind: str, port: int, directory: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=_RANKS
    )
    try:
        model = built(kind)
        if isinstance(model, Decoder):
            for layer in model.layers:
                fully_shard(layer)
        fully_shard(model)
        loss = loss_of(model, batch().chunk(_RANKS)[rank])
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {name: whole(w.grad) for name, w in model.named_parameters()}
        total = loss.detach().clone()
        distributed.all_reduce(total)
        if rank == 0:
            torch.save({"loss": total / _RANKS, "gradients": gradients}, Path(directory) / "out.pt")
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedding", "decoder", "shortcut"])
def test_two_ranks_compute_what_one_does(tmp_path: Path, kind: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(run, args=(kind, port, str(tmp_path)), nprocs=_RANKS)  # type: ignore[no-untyped-call]
    sharded = torch.load(tmp_path / "out.pt", weights_only=True)
    model = built(kind)
    loss = loss_of(model, batch())
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(sharded["loss"], loss.detach())
    gradients = {name: w.grad for name, w in model.named_parameters()}
    torch.testing.assert_close(sharded["gradients"], gradients)
