"""TABLE DRAFT's head: a linear map from what the n-gram embedding puts out to the vocabulary.

The question of arXiv:2601.21204, sec. 5, whether n-gram rows can draft tokens: the head is all that
is trained, by cross-entropy of the next token on the vectors of a frozen embedding.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from safetensors.torch import save
from torch import Tensor, nn

from ngscale.config_reader import shown
from ngscale.errors import InputError
from ngscale.model.embedding import NgramEmbedding
from ngscale.model.initialise import fill_normal
from ngscale.model.loss import linear_cross_entropy
from ngscale.model.stored import open_tensors
from ngscale.records import dump_json, write_atomic
from ngscale.safetensors_header import read_metadata

_SAVE_STEPS = 100
_PARTIAL = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTraining:
    """Constants of the head's training."""

    tokens: int = 400_000
    tokens_per_step: int = 2048
    learning_rate: float = 1e-2
    """Adam's at first; it falls linearly to 0. Vectors are scaled to a mean square of 1."""
    rank: int = 0
    """Of the map; 0: full."""
    seed: int = 0

    @property
    def num_steps(self) -> int:
        """At least one."""
        return max(1, self.tokens // self.tokens_per_step)


class TableHead(nn.Module):
    """Vectors [B, D] -> logits [B, V0]: ``up down x``, or ``up x`` alone at full rank."""

    def __init__(self, hidden_size: int, vocab_size: int, rank: int = 0) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, rank, bias=False) if rank else None
        self.up = nn.Linear(rank or hidden_size, vocab_size, bias=False)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V0"]:
        """Of the token behind each vector."""
        logits: Tensor = self.up(x if self.down is None else self.down(x))
        return logits

    def loss(self, x: Float[Tensor, "B T D"], targets: Int64[Tensor, "B T"]) -> Tensor:
        """Mean cross-entropy, nats."""
        return linear_cross_entropy(
            x if self.down is None else self.down(x), self.up.weight, targets
        )


def train_head(
    embedding: NgramEmbedding,
    blocks: Int64[np.ndarray, "N width"],
    training: HeadTraining,
    *,
    path: Path | None,
    identity: Mapping[str, Any],
    advance: Callable[[int], object] = lambda _: None,
) -> TableHead:
    """The head that ``path`` holds, or a new one, kept there and resumed where it was cut short.

    ``identity`` is what embedding and text are. Batches follow from the seed and the step.

    Raises:
        InputError: what ``path`` holds is of another vocabulary or broken.
    """
    vocab_size, hidden_size = embedding.word_embeddings.weight.shape
    device = embedding.word_embeddings.weight.device
    head = TableHead(hidden_size, vocab_size, training.rank).to(device)
    whole = {**identity, "training": asdict(training)}
    if path is not None and path.is_file():
        found, steps = _read(path, head)
        if found.get("identity") == dump_json(whole) and not steps:
            advance(training.num_steps)
            return head
    optimiser = torch.optim.Adam(head.parameters(), lr=training.learning_rate)
    first = _resumed(head, optimiser, path, whole)
    if first == 0:
        nn.init.zeros_(head.up.weight)
        if head.down is not None:
            fill_normal(
                head.down.weight, std=hidden_size**-0.5, seed=training.seed, name="draft_head"
            )
    advance(first)
    per_step = max(1, training.tokens_per_step // (blocks.shape[1] - 1))

    def batch_of(step: int) -> Int64[Tensor, "b width"]:
        order = np.random.default_rng([training.seed, step])
        return torch.from_numpy(blocks[order.integers(0, len(blocks), per_step)]).to(device)

    # Vectors of norm 1 would want another rate than amplified ones. The scale goes into the map.
    with torch.no_grad():
        scale = embedding(batch_of(0)[:, :-1]).square().mean().rsqrt()
    for step in range(first, training.num_steps):
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * (1 - step / training.num_steps)
        batch = batch_of(step)
        with torch.no_grad():
            x = scale * embedding(batch[:, :-1])
        optimiser.zero_grad()
        head.loss(x, batch[:, 1:]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        advance(1)
        if path is not None and (step + 1) % _SAVE_STEPS == 0:
            _write(_partial(path), head, whole, optimiser=optimiser, steps=step + 1)
    (head.up if head.down is None else head.down).weight.data.mul_(scale)
    if path is not None:
        _write(path, head, whole)
        _partial(path).unlink(missing_ok=True)
    return head.eval()


def read_head(path: Path, *, hidden_size: int, vocab_size: int) -> TableHead:
    """A head that was saved.

    Raises:
        InputError: the file is none, or the head is of another vocabulary or width.
    """
    tensors, _ = _tensors(path)
    down = tensors.get("down.weight")
    if down is not None and (down.dim() != 2 or down.shape[1] != hidden_size):
        raise InputError(
            f"{path}: down.weight: has shape {list(down.shape)}, this model needs [rank, "
            f"{hidden_size}]; it is the head of another model"
        )
    rank = 0 if down is None else len(down)
    head = TableHead(hidden_size, vocab_size, rank)
    _read(path, head)
    return head.eval()


@torch.no_grad()
def head_loss(
    head: TableHead, embedding: NgramEmbedding, blocks: Int64[np.ndarray, "N width"]
) -> float:
    """Mean cross-entropy over these blocks, nats."""
    tokens = torch.from_numpy(blocks).to(head.up.weight.device)
    return float(head.loss(embedding(tokens[:, :-1]), tokens[:, 1:]))


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.stem}-{_PARTIAL}{path.suffix}")


def _write(
    path: Path,
    head: TableHead,
    identity: Mapping[str, Any],
    *,
    optimiser: torch.optim.Adam | None = None,
    steps: int = 0,
) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in head.state_dict().items()}
    if optimiser is not None:
        for i, of_one in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": t.cpu() for name, t in of_one.items()}
    metadata = {"identity": dump_json(identity), "steps": str(steps)}
    write_atomic(path, save(tensors, metadata=metadata))


def _resumed(
    head: TableHead, optimiser: torch.optim.Adam, path: Path | None, identity: Mapping[str, Any]
) -> int:
    """Steps that an unfinished file holds of the same training."""
    if path is None or not _partial(path).is_file():
        return 0
    found, steps = _read(_partial(path), head)
    if found.get("identity") != dump_json(identity):
        return 0
    tensors, _ = _tensors(_partial(path))
    state = optimiser.state_dict()
    state["state"] = {}
    for i, weight in enumerate(head.parameters()):
        shapes = {"step": torch.Size(), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}
        state["state"][i] = {
            name: _of_shape(_partial(path), tensors, f"optimiser.{i}.{name}", shape)
            for name, shape in shapes.items()
        }
    optimiser.load_state_dict(state)
    return steps


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        stored = open_tensors(path)
        metadata = read_metadata(path)
    except InputError as error:
        raise InputError(f"{error}; this is no draft head, remove it") from error
    tensors = {name: tensor.to() for name, tensor in stored.items()}
    if "up.weight" not in tensors:
        raise InputError(f"{path}: up.weight: is missing; this is no draft head")
    return tensors, metadata


def _of_shape(path: Path, tensors: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    if name not in tensors or tensors[name].shape != shape:
        found = list(tensors[name].shape) if name in tensors else None
        raise InputError(
            f"{path}: {name}: has shape {found}, this model's vocabulary and width need "
            f"{list(shape)}; it is the head of another model"
        )
    return tensors[name]


def _read(path: Path, head: TableHead) -> tuple[dict[str, str], int]:
    """Fill ``head``; the metadata, and steps where it is unfinished."""
    tensors, metadata = _tensors(path)
    for name, place in head.state_dict().items():
        place.copy_(_of_shape(path, tensors, name, place.shape))
    steps = metadata.get("steps", "0")
    if not steps.isascii() or not steps.isdecimal() or len(steps) > 18:
        raise InputError(f"{path}: steps: {shown(steps)}: is no number; remove the file")
    return metadata, int(steps)
