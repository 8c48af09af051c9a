"""The output of an n-gram embedding as a sum: the word part and one part per table.

Only outputs of its modules are read (``word_embeddings``, ``tables``, ``amplifier``), so the
fusion is not computed a second time: of ``x = a W[t] + b sum_i P_i r_i`` the two scales come from
least squares, and the sum of parts has to be ``x`` to the tolerance of closure. A LayerNorm behind
it is linear once its mean and deviation are known: every part is centred, divided by the deviation
of the whole and multiplied by the gain.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ngscale.model.embedding import NgramEmbedding
from ngscale.probe.stream import CLOSURE_TOLERANCE, norm_of, rows_of


class EmbeddingParts:
    """Collects, while the model runs, what ``parts`` needs."""

    def __init__(self, embedding: nn.Module) -> None:
        self.embedding = embedding if isinstance(embedding, NgramEmbedding) else None
        self._seen: dict[str, Tensor] = {}

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Watch the embedding's modules; nothing where it has no tables."""
        with ExitStack() as stack:
            if self.embedding is not None:
                for name in ("word_embeddings", "tables"):
                    module = self.embedding.get_submodule(name)
                    stack.callback(module.register_forward_hook(self._keep(name)).remove)
                amplifier = self.embedding.amplifier
                keep = self._keep("fused")
                hook = amplifier.register_forward_pre_hook(lambda m, a: keep(m, a, a[0]))
                stack.callback(hook.remove)
            yield

    def _keep(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            self._seen[name] = output.detach()

        return hook

    def parts(self, embed: Float[Tensor, "T D"]) -> Mapping[str, Float[Tensor, "T D"]]:
        """``word``, ``order2``, .., ``table0``, ..; empty where they do not add up to ``embed``."""
        if self.embedding is None or len(self._seen) < 3:
            return {}
        spec = self.embedding.spec
        if spec.fusion != "average":
            return {}
        words, fused = rows_of(self._seen["word_embeddings"]), rows_of(self._seen["fused"])
        rows = self._seen["tables"].reshape(len(words), spec.num_tables, -1)  # (T, E, d)
        tables = [
            rows[:, i] @ self.embedding.table_projection(i).detach().T
            for i in range(spec.num_tables)
        ]
        ngram = torch.stack(tables).sum(0)
        columns = torch.stack([words.flatten(), ngram.flatten()]).double()  # (2, T*D)
        normal = torch.linalg.lstsq(
            columns @ columns.T, columns @ fused.double().flatten()[:, None], driver="gelsd"
        )  # gelsd: tables that were never trained are all zero
        a, b = (float(scale) for scale in normal.solution[:, 0])
        named = {"word": a * words, "ngram": b * ngram}
        for order in spec.orders:
            named[f"order{order}"] = b * torch.stack(
                [tables[i] for i in spec.tables_of(order)]
            ).sum(0)
        named |= {f"table{i}": b * table for i, table in enumerate(tables)}
        amplified = {name: self._amplify(part, fused) for name, part in named.items()}
        error = norm_of(amplified["word"] + amplified["ngram"] - embed) / norm_of(embed)
        return amplified if float(error.max()) <= CLOSURE_TOLERANCE else {}

    def _amplify(self, part: Tensor, fused: Tensor) -> Tensor:
        assert self.embedding is not None
        amplifier = self.embedding.amplifier
        if not isinstance(amplifier, nn.LayerNorm):
            return part
        deviation = torch.sqrt(fused.var(-1, correction=0, keepdim=True) + amplifier.eps)
        return amplifier.weight.detach() * (part - part.mean(-1, keepdim=True)) / deviation
