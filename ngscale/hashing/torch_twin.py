"""The torch twin of the LongCat polynomial: any device, no host sync, no loop over tokens."""

from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from ngscale.spec import NgramSpec


class HashConstants(NamedTuple):
    """What the hash needs on the device of the tokens; build it once per device."""

    powers: Int64[Tensor, "N E"]
    """``V**s mod rows_i``; 0 where table i's order does not reach s tokens back."""
    rows: Int64[Tensor, " E"]
    """Rows of each table, which is also its modulus."""


def hash_constants(spec: NgramSpec, device: torch.device | None = None) -> HashConstants:
    """The constants of ``spec``, on ``device``."""
    powers = [
        [
            pow(spec.vocab_size, s, rows) if s < order else 0
            for rows, order in zip(spec.table_rows, spec.table_orders, strict=True)
        ]
        for s in range(spec.max_order)
    ]
    return HashConstants(
        powers=torch.tensor(powers, dtype=torch.int64, device=device),
        rows=torch.tensor(spec.table_rows, dtype=torch.int64, device=device),
    )


def ngram_row_ids(
    tokens: Int64[Tensor, "B T"],
    spec: NgramSpec,
    *,
    past: Int64[Tensor, "B P"] | None = None,
    constants: HashConstants | None = None,
) -> Int64[Tensor, "B T E"]:
    """Row in every table of the n-gram ending at each position; ids are below ``hash_base``.

    The same function as ``longcat.row_ids_exact``, in int64: a single product
    ``c_s * (V**s mod rows)`` stays below 2**63 (``spec.check_rows`` bounds two of them by 2**64)
    and is reduced before it is added, so nothing overflows.

    ``past`` holds the ids just before ``tokens`` (N-1 of them are enough): decoding with it
    gives the rows of the whole sequence. ``constants`` spares their copy to the device.
    """
    powers, rows = hash_constants(spec, tokens.device) if constants is None else constants
    num_past = 0 if past is None else past.shape[1]
    context = tokens if past is None else torch.cat([past, tokens], dim=1)  # (B, P+T)
    ids = (context.unsqueeze(-1) * powers[0]) % rows  # (B, P+T, E)
    in_segment = torch.ones_like(context, dtype=torch.bool)
    for s in range(1, spec.max_order):  # N-1 steps, whatever the length
        back = _shift(context, s)
        # A boundary closes its own segment: it is out of reach for all that follows.
        for boundary in spec.policy.boundary_tokens:
            in_segment = in_segment & (back != boundary)
        back = back.masked_fill(~in_segment, 0)
        ids = ids + (back.unsqueeze(-1) * powers[s]) % rows
    return (ids % rows)[:, num_past:]


def _shift(ids: Int64[Tensor, "B T"], steps: int) -> Int64[Tensor, "B T"]:
    """``ids`` moved ``steps`` to the right; 0, the missing context, comes in on the left."""
    padded = torch.nn.functional.pad(ids, (steps, 0))
    return padded[:, : ids.shape[1]]
