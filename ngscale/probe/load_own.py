"""A decoder that ngscale builds itself, read layer by layer and its tables row by row."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from ngscale.design import Design
from ngscale.model.checkpoint import is_longcats, plan_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding, NgramTables
from ngscale.model.longcat import load_all_but_tables, load_own_tensor, longcat_name, table_names
from ngscale.model.stored import StoredTensor, StoredTensors, planned
from ngscale.probe.streamed import Read, put
from ngscale.probe.table_files import Rows, gather_rows


class StoredRows(nn.Module):
    """Stands for the ``tables`` of an n-gram module: reads from disk what a forward looks up."""

    def __init__(self, directory: Path, parts: Sequence[Rows], starts: Sequence[int]) -> None:
        super().__init__()
        self.directory, self.parts, self.starts = directory, parts, starts

    def forward(self, ids: Int64[Tensor, "B T E"]) -> Float32[Tensor, "B T E d"]:
        """The rows ``ids``, which count from the first table's first row."""
        flat = ids.flatten(0, 1).cpu().numpy()  # (B*T, E)
        rows = [
            gather_rows(self.directory, (part,), flat[:, i] - start)
            for i, (part, start) in enumerate(zip(self.parts, self.starts, strict=True))
        ]
        found = torch.from_numpy(np.stack(rows, axis=1)).to(ids.device)
        return found.view(*ids.shape, -1)


def stream_own(
    directory: Path, tensors: Mapping[str, StoredTensor], device: torch.device
) -> tuple[Decoder, Design, Read]:
    """The decoder without its weights, its design, and what reads them.

    Raises:
        InputError: as ``load_decoder``.
    """
    decoder, design = plan_decoder(directory, planned(tensors))
    longcats = is_longcats(design.model)
    for path, module in decoder.named_modules():
        if isinstance(module, NgramTables):
            spec, own = module.spec, f"{path}.tables.weight"
            if longcats and path == "embed_tokens":
                stored = [tensors[name] for name in table_names(tensors, spec.num_tables)]
                firsts = [0] * spec.num_tables
            else:
                stored = [tensors[longcat_name(own) if longcats else own]] * spec.num_tables
                firsts = list(spec.table_starts)
            parts = [
                Rows(tensor=tensor.header, first=first, number=spec.readable_rows(i))
                for i, (tensor, first) in enumerate(zip(stored, firsts, strict=True))
            ]
            module.register_module("tables", StoredRows(directory, parts, spec.table_starts))
    return decoder, design, _reader(decoder, directory, tensors, device, longcats=longcats)


def _reader(
    decoder: Decoder,
    directory: Path,
    tensors: Mapping[str, StoredTensor],
    device: torch.device,
    *,
    longcats: bool,
) -> Read:
    embedding, values = decoder.embed_tokens, StoredTensors(tensors)

    def read_own(names: Sequence[str]) -> None:
        for name in names:
            put(decoder, name, tensors[name].to(device, decoder.state_dict()[name].dtype))

    def read_longcats(names: Sequence[str]) -> None:
        places = decoder.state_dict()
        for name in names:
            put(decoder, name, torch.empty_like(places[name], device=device))
        places, rest = decoder.state_dict(), list(names)
        if isinstance(embedding, NgramEmbedding) and "embed_tokens.word_embeddings.weight" in rest:
            load_all_but_tables(embedding, values, source=str(directory))
            rest = [name for name in rest if not name.startswith("embed_tokens.")]
        for name in rest:
            load_own_tensor(name, places[name], values, source=str(directory))

    return read_longcats if longcats else read_own
